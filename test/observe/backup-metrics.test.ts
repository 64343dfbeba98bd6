import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { BackupMetricsFile } from '../../src/observe/backup-metrics.ts'

describe('the metrics file of backups', () => {
  let directory: string
  let now = 1_800_000_000_000
  const failures: Error[] = []

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'walrx-metrics-'))
    failures.length = 0
  })

  afterEach(() => rm(directory, { recursive: true, force: true }))

  const path = () => join(directory, 'walrx.prom')
  const begin = () =>
    BackupMetricsFile.begin(
      path(),
      () => now,
      (error) => failures.push(error),
    )

  async function values(): Promise<Record<string, number>> {
    const text = await readFile(path(), 'utf8')
    const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    return Object.fromEntries(lines.map((line) => line.split(' ')).map(([name = '', value]) => [name, Number(value)]))
  }

  test('shows a running backup, and its end', async () => {
    const file = await begin()
    assert.equal((await values())['walrx_backup_running'], 1)
    assert.equal((await values())['walrx_backup_last_success_time_seconds'], 0)
    now += 20_000
    file.progress(500, 1000)
    now += 1000
    file.progress(600, 1000)
    await file.end({ storedBytes: 70, files: 3, damagedFiles: 0 })
    const end = await values()
    assert.equal(end['walrx_backup_running'], 0)
    assert.equal(end['walrx_backup_success'], 1)
    assert.equal(end['walrx_backup_received_bytes'], 600)
    assert.equal(end['walrx_backup_stored_bytes'], 70)
    assert.equal(end['walrx_backup_duration_seconds'], 21)
    assert.equal(end['walrx_backup_last_success_time_seconds'], now / 1000)
    assert.deepEqual(await readdir(directory), ['walrx.prom'])
    assert.deepEqual(failures, [])
  })

  test('a failed one keeps the time of the last good one', async () => {
    await (await begin()).end({ storedBytes: 1, files: 1, damagedFiles: 0 })
    const good = now / 1000
    now += 3_600_000
    const file = await begin()
    assert.equal((await values())['walrx_backup_success'], 1)
    await file.end(undefined)
    assert.equal((await values())['walrx_backup_success'], 0)
    assert.equal((await values())['walrx_backup_last_success_time_seconds'], good)
  })

  test('a file that cannot be written is reported, and stops nothing', async () => {
    await rm(directory, { recursive: true })
    const file = await begin()
    file.progress(1, 2)
    await file.end(undefined)
    assert.ok(failures.length >= 2)
    assert.match(String(failures[0]), /ENOENT/)
  })
})
