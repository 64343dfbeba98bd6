import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { backupMetricSpecs } from '../../src/observe/backup-metrics.ts'
import { metricSpecs } from '../../src/observe/metrics.ts'
import { repository } from '../lint/source-files.ts'

test('docs/monitoring.md lists every metric with its meaning, and no other', () => {
  const text = readFileSync(join(repository, 'docs/monitoring.md'), 'utf8')
  const rows = [...text.matchAll(/^\| `(walrx_\w+)`\s*\| (\w+)\s*\| (.*?)\s*\|$/gm)].map(([, ...cells]) => cells)
  assert.deepEqual(
    rows,
    [...Object.values(metricSpecs), ...Object.values(backupMetricSpecs)].map(({ name, type, help }) => [
      name,
      type,
      help,
    ]),
  )
})
