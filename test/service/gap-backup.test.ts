/** After a gap a base backup is taken, once, by a program that is followed to its end. */
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { GapBackup } from '../../src/service/gap-backup.ts'
import type { Logger } from '../../src/observe/log.ts'
import { toLsn } from '../../src/postgres/lsn.ts'
import { type Clock, systemClock } from '../../src/primitives/clock.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { systemKey } from '../../src/walg/names.ts'
import { type GapRecord, writeGap } from '../../src/walg/wal/gap-records.ts'
import { FastClock } from '../harness/time/fast-clock.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { until } from '../harness/time/until.ts'

const gap = {
  timeline: 1,
  startLsn: toLsn(0x5000000n),
  endLsn: toLsn(0x8000000n),
  detectedAt: '2026-03-01T12:00:00Z',
  reason: 'test',
  host: 'db1',
  slot: 'walrx',
}

const segmentSize = 0x1000000

/** Says how large segments are, and archives some of timeline 1, both numbers included. */
function addSegments(storage: MemoryStorage, first: number, last: number): void {
  storage.seed(systemKey, JSON.stringify({ SystemIdentifier: 1, WalSegmentSize: segmentSize }))
  for (let segno = first; segno <= last; segno++) {
    storage.seed(`wal_005/${segmentName(1, BigInt(segno), segmentSize)}.zst`, 'x')
  }
}

/** A backup that begins there. */
function addBackup(storage: MemoryStorage, start: bigint): void {
  const name = `base_0000000100000000000000${(start >> 24n).toString(16).padStart(2, '0').toUpperCase()}`
  const sentinel = { LSN: Number(start), FinishLSN: Number(start) + 100, PgVersion: 170_000 }
  storage.seed(`basebackups_005/${name}_backup_stop_sentinel.json`, Buffer.from(JSON.stringify(sentinel)))
}

describe('a gap', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'walrx-gap-backup-'))
  })
  afterEach(() => rm(directory, { recursive: true }))

  /** Runs `script` for a backup; every run leaves a line in `runs`. */
  function setUp(storage: MemoryStorage, script: string, clock: Clock = systemClock) {
    const lines: string[] = []
    const outcomes: string[] = []
    const say = (message: string, fields: object = {}) => void lines.push(`${message} ${JSON.stringify(fields)}`)
    const log: Logger = { debug: say, info: say, warn: say, error: say, child: () => log }
    const drain = new AbortController()
    const runs = join(directory, 'runs')
    const code = `require('node:fs').appendFileSync(${JSON.stringify(runs)}, 'x'); ${script}`
    const backup = new GapBackup({
      storage,
      command: [process.execPath, '-e', code],
      environment: { GREETING: 'hello' },
      clock,
      random: () => 0.5,
      log,
      onEnd: (outcome) => {
        outcomes.push(outcome)
        if (outcome === 'done') addBackup(storage, 0x9000000n)
      },
      signal: drain.signal,
    })
    const runCount = async () => (await readFile(runs, 'utf8').catch(() => '')).length
    return { backup, drain, lines, outcomes, runCount }
  }

  test('gets its backup, with its output in the log; several looks take one', async () => {
    const storage = new MemoryStorage()
    addBackup(storage, 0x4000000n)
    await writeGap(storage, gap)
    const { backup, lines, outcomes, runCount } = setUp(storage, 'console.log("one"); console.error("two")')
    void backup.look()
    void backup.look()
    await until('the end', () => outcomes.length === 1)
    void backup.look()
    await backup.close()
    assert.deepEqual([await runCount(), outcomes], [1, ['done']])
    const said = lines.join('\n')
    assert.match(said, /taking a base backup after a gap {"from":"0\/5000000","to":"0\/8000000"}/)
    assert.match(said, /output of the base backup {"line":"one"}/)
    assert.match(said, /output of the base backup {"line":"two"}/)
    assert.match(said, /the base backup after a gap is complete {"gapEnd":"0\/8000000","status":0}/)
  })

  test('needs none where a backup was begun after it, and where there is no gap', async () => {
    const covered = new MemoryStorage()
    await writeGap(covered, gap)
    addBackup(covered, 0x8000000n)
    for (const storage of [covered, new MemoryStorage()]) {
      const { backup, runCount } = setUp(storage, '')
      await backup.look()
      await backup.close()
      assert.equal(await runCount(), 0)
    }
  })

  test('of nothing but wal_level=minimal needs one too: no segment that comes later fills it', async () => {
    const storage = new MemoryStorage()
    addSegments(storage, 1, 9)
    addBackup(storage, 0x4000000n)
    await writeGap(storage, { ...gap, endLsn: toLsn(gap.startLsn + 1n) })
    const { backup, runCount } = setUp(storage, '')
    const looking = backup.look()
    await until('the backup', async () => (await runCount()) === 1)
    addBackup(storage, 0x6000000n)
    await looking
    await backup.close()
    assert.equal(await runCount(), 1)
  })

  test('that others have filled needs none: not before all of its segments are there', async () => {
    const filled = new MemoryStorage()
    await writeGap(filled, gap)
    addSegments(filled, 0x4, 0x7)
    const needed = setUp(filled, '')
    await needed.backup.look()
    await needed.backup.close()
    assert.equal(await needed.runCount(), 0)

    const open = new MemoryStorage()
    await writeGap(open, gap)
    addSegments(open, 0x4, 0x9)
    open.objects.delete(`wal_005/${segmentName(1, 6n, segmentSize)}.zst`)
    const { backup, runCount } = setUp(open, '')
    await backup.look()
    await backup.close()
    assert.equal(await runCount(), 1)
  })

  test('is looked for before those that end later and were filled, and after those that were not', async () => {
    const storage = new MemoryStorage()
    const later: GapRecord = { ...gap, startLsn: toLsn(0xa000000n), endLsn: toLsn(0xb000000n) }
    for (const each of [gap, later]) await writeGap(storage, each)
    addSegments(storage, 0xa, 0xb)
    const { backup, lines } = setUp(storage, '')
    await backup.look()
    await backup.close()
    assert.match(lines.join('\n'), /taking a base backup after a gap {"from":"0\/5000000","to":"0\/8000000"}/)
  })

  test('costs few requests in a large archive: its own segments are listed, and nothing is read', async () => {
    const storage = new MemoryStorage({ pageKeys: 100 })
    for (let at = 0; at < 50; at++) {
      const startLsn = toLsn(BigInt(at + 1) * 0x1000000n)
      await writeGap(storage, { ...gap, startLsn, endLsn: toLsn(startLsn + 0x1000000n) })
    }
    addBackup(storage, 0x33000000n)
    await writeGap(storage, { ...gap, startLsn: toLsn(0x40000000n), endLsn: toLsn(0x48000000n) })
    addSegments(storage, 0x33, 0x1000)
    const { backup, runCount } = setUp(storage, '')
    storage.calls.length = 0
    await backup.look()
    await backup.close()
    assert.equal(await runCount(), 0)
    const lists = storage.log.filter((line) => line.startsWith('list wal_005/'))
    assert.deepEqual([lists.length, storage.log.filter((line) => line.startsWith('get')).length], [1, 2])
  })

  test('gets another backup after one that failed', async () => {
    const storage = new MemoryStorage()
    await writeGap(storage, gap)
    const once = join(directory, 'once')
    await writeFile(once, '')
    const script = `const fs = require('node:fs'); if (fs.existsSync('${once}')) { fs.rmSync('${once}'); process.exit(3) }`
    const { backup, outcomes, runCount } = setUp(storage, script, new FastClock(2_000))
    void backup.look()
    await until('the second backup', () => outcomes.length === 2)
    await backup.close()
    assert.deepEqual([await runCount(), outcomes], [2, ['failed', 'done']])
  })

  test('gets no other backup at once after one that was begun too early', async () => {
    const storage = new MemoryStorage()
    await writeGap(storage, { ...gap, endLsn: toLsn(0xa000000n) })
    const { backup, lines, outcomes } = setUp(storage, '')
    void backup.look()
    await until('the message', () => lines.some((line) => /was begun before the end of the gap/.test(line)))
    assert.deepEqual(outcomes, ['done'])
    await backup.close()
    assert.deepEqual(outcomes, ['done'])
  })

  test('gives its backup the environment of the settings, and no other', async () => {
    const storage = new MemoryStorage()
    await writeGap(storage, gap)
    const { backup, lines } = setUp(storage, 'console.log(Object.entries(process.env).join())')
    await backup.look()
    await backup.close()
    assert.match(lines.join('\n'), /output of the base backup {"line":"GREETING,hello"}/)
  })

  test('loses its backup at a stop: it is asked to end, and waited for', async () => {
    const storage = new MemoryStorage()
    await writeGap(storage, gap)
    const script = `process.on('SIGTERM', () => { console.log('tidied up'); process.exit(0) }); setInterval(() => {}, 1000)`
    for (const how of ['drain', 'close'] as const) {
      const { backup, drain, lines, outcomes } = setUp(storage, `${script}; console.log('ready')`)
      void backup.look()
      await until('the backup', () => lines.some((line) => line.includes('"ready"')))
      if (how === 'drain') drain.abort()
      await backup.close()
      assert.match(lines.join('\n'), /tidied up/)
      assert.deepEqual(outcomes, [], 'that is no failure')
      void backup.look()
    }
  })
})
