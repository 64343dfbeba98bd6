/** Restore windows by position: what a recovery reaches from each backup, as restore/recovery finds it one by one. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { openGaps } from '../../../src/catalog/open-gaps.ts'
import { readInventory } from '../../../src/catalog/wal-inventory.ts'
import { restoreWindows, type RestoreWindow, type WindowBackup } from '../../../src/catalog/window/restore-window.ts'
import { formatLsn, parseLsn, segmentNumber, toLsn } from '../../../src/postgres/lsn.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { Histories, recoveryChain, whyNotOnChain } from '../../../src/restore/recovery/recovery-timelines.ts'
import { reachableWal } from '../../../src/restore/recovery/recovery-wal.ts'
import { parseSentinel } from '../../../src/walg/backup/sentinel.ts'
import { type GapRecord, writeGap } from '../../../src/walg/wal/gap-records.ts'
import { tailKey } from '../../../src/walg/names.ts'
import { WalReader } from '../../../src/walg/wal/wal-reader.ts'
import { makeSegment } from '../../harness/made/made-wal.ts'
import { Random } from '../../harness/random.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const MiB = 1024 * 1024
const notEmpty = Buffer.from('x')

/** A backup from and to these positions; a delta where it has a parent. */
function backup(timeline: number, start: string, finish: string, parent?: string): WindowBackup {
  const startLsn = parseLsn(start)
  const segment = segmentName(timeline, segmentNumber(startLsn, MiB), MiB)
  const delta = parent === undefined ? {} : { DeltaFrom: parent, DeltaLSN: 1, DeltaFullName: parent, DeltaCount: 1 }
  const document = { LSN: Number(startLsn), FinishLSN: Number(parseLsn(finish)), ...delta }
  const name = `base_${segment}${parent === undefined ? '' : `_D_${parent.slice(5, 29)}`}`
  return { name, sentinel: parseSentinel(Buffer.from(JSON.stringify(document)), name) }
}

function seed(storage: MemoryStorage, timeline: number, ...segnos: number[]): void {
  for (const segno of segnos) storage.seed(`wal_005/${segmentName(timeline, BigInt(segno), MiB)}.zst`, notEmpty)
}

const record = (timeline: number, start: string, end: string): GapRecord => ({
  ...{ timeline, startLsn: parseLsn(start), endLsn: parseLsn(end) },
  ...{ detectedAt: '2026-03-01T12:00:00Z', reason: 'it was removed', host: 'db1', slot: undefined },
})

async function windowsOf(storage: MemoryStorage, ...backups: WindowBackup[]): Promise<RestoreWindow[]> {
  const reader = new WalReader(storage)
  const inventory = await readInventory(reader, MiB)
  return restoreWindows(inventory, openGaps(await reader.gaps(), inventory), backups)
}

const shown = (windows: readonly RestoreWindow[]) =>
  windows.map(({ backup, backupCount, end, endLsn, startLsn, timeline }) => {
    return [timeline, backup.name.slice(5, 29), backupCount, formatLsn(startLsn), formatLsn(endLsn), end.kind].join(' ')
  })

test('a window goes from the oldest backup to the end of the tail', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 4, 5, 6, 7)
  storage.seed(tailKey(segmentName(1, 8n, MiB), { from: 0, to: 0x1234 }, 'zst'), notEmpty)
  const windows = await windowsOf(storage, backup(1, '0/600028', '0/600100'), backup(1, '0/400028', '0/500100'))
  assert.deepEqual(shown(windows), ['1 000000010000000000000004 2 0/500100 0/801234 newest'])
  assert.deepEqual(shown(await windowsOf(storage)), [])
})

test('the backup that is consistent first begins the window, even where another one began before it', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 4, 5, 6, 7)
  const windows = await windowsOf(storage, backup(1, '0/300028', '0/700100'), backup(1, '0/400028', '0/500100'))
  assert.deepEqual(shown(windows), ['1 000000010000000000000004 2 0/500100 0/800000 newest'])
})

test('holes, gaps and breaks end a window, and the next backup begins another', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 4, 5, 7, 8, 9, 20, 21, 22, 23)
  await writeGap(storage, record(1, '0/A00000', '0/1400000'))
  await writeGap(storage, record(1, '0/1600000', '0/1600001'))
  const windows = await windowsOf(
    storage,
    ...[backup(1, '0/300028', '0/300100'), backup(1, '0/500028', '0/600100'), backup(1, '0/700028', '0/700100')],
    ...[backup(1, '0/1400028', '0/1400100'), backup(1, '0/1600028', '0/1600100')],
  )
  assert.deepEqual(shown(windows), [
    '1 000000010000000000000003 1 0/300100 0/600000 hole',
    '1 000000010000000000000007 1 0/700100 0/A00000 gap',
    '1 000000010000000000000014 1 0/1400100 0/1600000 break',
    '1 000000010000000000000016 1 0/1600100 0/1800000 newest',
  ])
  assert.deepEqual(windows[0]?.end, { kind: 'hole', segment: segmentName(1, 6n, MiB) })
})

test('a window over a fork follows the history, from a backup on the ancestor', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 4, 5, 6)
  seed(storage, 2, 5, 6, 7)
  seed(storage, 3, 6)
  storage.seed('wal_005/00000002.history', '1\t0/580000\tpromoted\n')
  storage.seed('wal_005/00000003.history', '1\t0/580000\tpromoted\n2\t0/640000\tpromoted\n')
  // The second one ends on timeline 1 after the fork: no recovery to timeline 2 starts from it.
  const windows = await windowsOf(storage, backup(1, '0/400028', '0/400100'), backup(1, '0/500028', '0/600100'))
  assert.deepEqual(shown(windows), [
    '1 000000010000000000000004 2 0/400100 0/700000 newest',
    '2 000000010000000000000004 1 0/400100 0/800000 newest',
    '3 000000010000000000000004 1 0/400100 0/700000 newest',
  ])
})

test('a hole before the fork: the window is that of the ancestor alone', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 5)
  seed(storage, 2, 5, 6, 7)
  storage.seed('wal_005/00000002.history', '1\t0/580000\tpromoted\n')
  const windows = await windowsOf(storage, backup(1, '0/300028', '0/300100'), backup(2, '0/600028', '0/600100'))
  assert.deepEqual(shown(windows), [
    '1 000000010000000000000003 1 0/300100 0/400000 hole',
    '2 000000020000000000000006 1 0/600100 0/800000 newest',
  ])
})

test('a backup counts only with all that it builds on, its sentinel, and the WAL to its end', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 4, 5)
  const full = backup(1, '0/400028', '0/400100')
  const delta = backup(1, '0/500028', '0/500100', full.name)
  const unfinished = backup(1, '0/500028', '0/700100')
  assert.deepEqual(shown(await windowsOf(storage, delta, unfinished, { name: full.name, sentinel: undefined })), [])
  assert.deepEqual(shown(await windowsOf(storage, delta)), [])
  assert.deepEqual(shown(await windowsOf(storage, delta, full)), [
    '1 000000010000000000000004 2 0/400100 0/600000 newest',
  ])
})

test('a segment of 0 bytes ends a window, also where it is the newest, and it is no end of the archive', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 4, 5, 7)
  for (const segno of [6, 8]) storage.seed(`wal_005/${segmentName(1, BigInt(segno), MiB)}.zst`, '')
  const backups = [backup(1, '0/400028', '0/400100'), backup(1, '0/700028', '0/700100')]
  assert.deepEqual(shown(await windowsOf(storage, ...backups)), [
    '1 000000010000000000000004 1 0/400100 0/600000 hole',
    '1 000000010000000000000007 1 0/700100 0/800000 hole',
  ])
  // Which of two forms is read is not known.
  for (const [segno, extension] of [
    [6, 'lz4'],
    [8, 'zz'],
  ] as const)
    storage.seed(`wal_005/${segmentName(1, BigInt(segno), MiB)}.${extension}`, 'x')
  assert.equal((await windowsOf(storage, ...backups)).length, 2)
})

test('a history that cannot be read leaves no window on its timeline', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, 3, 4)
  seed(storage, 2, 4, 5)
  storage.seed('wal_005/00000002.history', '1\t0/480000\tx\n')
  const backups = [backup(1, '0/300028', '0/300100'), backup(2, '0/500028', '0/500100')]
  const timelines = async () => (await windowsOf(storage, ...backups)).map(({ timeline }) => timeline)
  assert.deepEqual(await timelines(), [1, 2])
  for (const damaged of ['', 'x', '# nothing\n']) {
    storage.seed('wal_005/00000002.history', damaged)
    assert.deepEqual(await timelines(), [1])
    const { problems } = await readInventory(new WalReader(storage), MiB)
    assert.match(problems[0]?.message ?? '', /00000002\.history/)
    assert.match(problems[0]?.hint ?? '', /^remove it with walrx st rm --force wal_005\/00000002\.history: /)
  }
})

test('a thousand backups of a long archive cost no more than a look at each', async () => {
  const storage = new MemoryStorage()
  seed(storage, 1, ...Array.from({ length: 3000 }, (_, index) => index + 1).filter((segno) => segno % 3 !== 0))
  const backups = Array.from({ length: 1000 }, (_, index) => {
    const at = (3 * index + 1) * MiB
    return backup(1, formatLsn(toLsn(BigInt(at + 40))), formatLsn(toLsn(BigInt(at + 256))))
  })
  assert.equal((await windowsOf(storage, ...backups)).length, 1000)
})

describe('on made-up archives', () => {
  const base = Number(process.env['WALRX_TEST_SEED'] ?? 20_261)
  for (let round = 0; round < 40; round++) {
    test(`every window ends where a recovery from its backup does (seed ${base + round})`, async () => {
      const random = new Random(base + round).next
      const storage = new MemoryStorage()
      const forks = [0, 1, 2].map((index) => 4 + index * 4 + Math.floor(random() * 4))
      for (const timeline of [1, 2, 3]) {
        const from = timeline === 1 ? 1 : (forks[timeline - 2] ?? 0)
        const to = (forks[timeline - 1] ?? 0) + (random() < 0.5 ? 0 : 2)
        for (let segno = from; segno <= to; segno++)
          if (random() < 0.85) seedReal(storage, timeline, segno, random() < 0.1)
        if (random() < 0.5) {
          const length = 8192 * (1 + Math.floor(random() * 100))
          const name = segmentName(timeline, BigInt(to + 1), MiB)
          storage.seed(tailKey(name, { from: 0, to: length }, ''), makeSegment(name).subarray(0, length))
        }
      }
      const lines = forks.slice(0, 2).map((fork, index) => `${index + 1}\t0/${(fork * MiB + 0x4000).toString(16)}\tx\n`)
      storage.seed('wal_005/00000002.history', lines[0] ?? '')
      storage.seed('wal_005/00000003.history', lines.join(''))
      const backups = Array.from({ length: 6 }, () => {
        const timeline = 1 + Math.floor(random() * 3)
        const segno = (timeline === 1 ? 1 : (forks[timeline - 2] ?? 0) + 1) + Math.floor(random() * 5)
        const length = Math.floor(random() * 2 * MiB)
        const at = (offset: number) => formatLsn(toLsn(BigInt(segno * MiB + offset)))
        return backup(timeline, at(40), at(200 + length))
      })
      const windows = await windowsOf(storage, ...backups)
      const reader = new WalReader(storage)
      const histories = new Histories(reader)
      for (const timeline of [1, 2, 3]) {
        const chain = await recoveryChain(histories, timeline, timeline)
        for (const { name, sentinel } of backups) {
          const { finishLsn, startLsn } = sentinel ?? {}
          if (!startLsn || !finishLsn) continue
          const own = Number(name.slice(5, 13))
          if (whyNotOnChain(chain, { name, timeline: own, startLsn, finishLsn }) !== undefined) continue
          const { end } = await reachableWal(reader, chain, startLsn, MiB)
          const isOfAncestor = own !== timeline && end <= chain.newest.begin
          const isUsable = end >= finishLsn && !isOfAncestor
          const has = windows.some((each) => {
            return each.timeline === timeline && each.endLsn === end && each.startLsn <= finishLsn && finishLsn <= end
          })
          const hasWal = [...storage.objects.keys()].some((key) => key.includes(`/0000000${timeline}00`))
          assert.equal(has, isUsable && hasWal, `${name} to timeline ${timeline} reaches ${formatLsn(end)}`)
        }
      }
    })
  }
})

function seedReal(storage: MemoryStorage, timeline: number, segno: number, isEmpty: boolean): void {
  const name = segmentName(timeline, BigInt(segno), MiB)
  storage.seed(`wal_005/${name}`, isEmpty ? '' : notEmpty)
}
