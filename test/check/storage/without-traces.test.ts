import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { withoutTraces } from '../../../src/check/storage/probe-store.ts'
import { systemClock } from '../../../src/primitives/clock.ts'

test('a check of a directory removes the folders of the prefix that it made, and no other', async () => {
  const root = await mkdtemp(join(tmpdir(), 'walrx-traces-'))
  try {
    await mkdir(join(root, 'clusters'))
    const place = { bucket: undefined, directory: { root, folder: 'clusters/db 1/main' } }
    const make = () => mkdir(join(root, 'clusters/db 1/main/walrx_005'), { recursive: true })
    await withoutTraces(place, systemClock, make)
    assert.deepEqual(await readdir(root, { recursive: true }), ['clusters'])
    await withoutTraces(place, systemClock, async () => {
      await make()
      await mkdir(join(root, 'clusters/db 1/other'))
    })
    assert.deepEqual(await readdir(join(root, 'clusters/db 1')), ['other'])
  } finally {
    await rm(root, { recursive: true })
  }
})
