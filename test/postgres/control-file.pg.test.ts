import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { parseChecksumState } from '../../src/postgres/control-file.ts'
import { clusterTemplate, pgMajors } from '../harness/postgres/postgres-files.ts'

test('pg_control of a real cluster shows what initdb was given', { timeout: 120_000 }, async () => {
  for (const major of pgMajors) {
    for (const dataChecksums of [false, true]) {
      const data = await clusterTemplate({ major, segmentSizeMb: 16, dataChecksums })
      const state = parseChecksumState(await readFile(join(data, 'global/pg_control')))
      assert.equal(state, dataChecksums ? 'on' : 'off', `PostgreSQL ${major}`)
    }
  }
})
