/** A small archive in memory: two timelines, a chain and a second full backup, a gap, a tail, and what WAL-G keeps beside. */
import { zstdCompressSync } from 'node:zlib'
import type { CopyOptions, CopySummary } from '../../src/copy/copy-archive.ts'
import { copyArchive } from '../../src/copy/copy-archive.ts'
import type { CopyRequest } from '../../src/copy/scope/copy-request.ts'
import { silentLog } from '../../src/observe/log.ts'
import type { Clock } from '../../src/primitives/clock.ts'
import { toLsn } from '../../src/postgres/lsn.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { formatContents } from '../../src/walg/backup/backup-contents.ts'
import { formatMetadata, metadataOf } from '../../src/walg/backup/backup-metadata.ts'
import { backupFolder, contentsKey, metadataKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { formatSentinel, parseSentinel } from '../../src/walg/backup/sentinel.ts'
import { gapKey } from '../../src/walg/wal/gap-records.ts'
import { systemKey, tailKey, walKey } from '../../src/walg/names.ts'
import { ObjectSum } from '../../src/walg/stored/object-sum.ts'
import { madeSegmentSize, madeSystemId, makeHistory, makeSegment } from '../harness/made/made-wal.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

let ticks = 0

/** Every look at it is a millisecond later, and whoever waits for it is awaken at once: times of objects differ. */
export const tickingClock: Clock = {
  now: () => Date.UTC(2026, 2, 2) + ++ticks,
  setTimer(_ms, fire) {
    const handle = setImmediate(fire)
    return { cancel: () => clearImmediate(handle) }
  },
}

/** An empty place for a copy. */
export const newTarget = (): MemoryStorage => new MemoryStorage({ location: 'memory://target', clock: tickingClock })

/** The backups, oldest first: a full one, a delta on it, another full one on timeline 2. */
export const full = 'base_000000010000000000000002'
export const delta = 'base_000000010000000000000004_D_000000010000000000000002'
export const second = 'base_000000020000000000000008'

/** Name of a segment of a timeline, by its number. */
export const segment = (segno: number, timeline = 1): string => segmentName(timeline, BigInt(segno), madeSegmentSize)

const lsn = (segno: number, offset = 0) => toLsn(BigInt(segno) * BigInt(madeSegmentSize) + BigInt(offset))

/** When a backup began: on 1 March, at this hour. */
const at = (hour: number, minute = 0) =>
  `2026-03-01T${String(hour).padStart(2, '0')}:${String(minute).padStart(2, '0')}:00Z`

/** Seeds a backup with two parts, its list of objects, and its documents. */
export function seedBackup(
  storage: MemoryStorage,
  name: string,
  {
    first,
    hour,
    last,
    parent,
    systemId = madeSystemId,
  }: {
    readonly first: number
    readonly last: number
    readonly hour: number
    readonly parent?: string
    readonly systemId?: bigint
  },
): void {
  const sentinel = {
    ...parseSentinel(Buffer.from('{}'), name),
    startLsn: lsn(first, 40),
    finishLsn: lsn(last, 4096),
    systemIdentifier: systemId,
    startTime: at(hour),
    finishTime: at(hour, 30),
    ...(parent !== undefined && {
      delta: { parentName: parent, parentLsn: lsn(2, 40), fullName: parent, count: 1, incrementFormat: undefined },
    }),
  }
  const objects = ['tar_partitions/part_001.tar.zst', 'tar_partitions/pg_control.tar.zst'].map((object) => {
    const bytes = Buffer.from(`${object} of ${name}`)
    storage.seed(backupFolder(name) + object, bytes)
    const sum = new ObjectSum()
    sum.add(bytes)
    return { name: object, size: sum.size, crc32c: sum.crc32c }
  })
  storage.seed(`${backupFolder(name)}files_metadata.json`, '{"Files":{}}')
  storage.seed(contentsKey(name), formatContents(objects))
  storage.seed(metadataKey(name), formatMetadata(metadataOf(sentinel)))
  storage.seed(sentinelKey(name), formatSentinel(sentinel))
}

/** Seeds a segment in zstd. */
export function seedSegment(storage: MemoryStorage, name: string): void {
  storage.seed(walKey(name, 'zst'), zstdCompressSync(makeSegment(name)))
}

/** The archive: timeline 1 has segments 2 to 6, timeline 2 forks in 6 and has 6 to 11, with a tail of 12. */
export function makeArchive(): MemoryStorage {
  const storage = new MemoryStorage({ location: 'memory://source', clock: tickingClock })
  storage.seed(systemKey, `{"SystemIdentifier":${madeSystemId},"WalSegmentSize":${madeSegmentSize}}\n`)
  for (let segno = 2; segno <= 6; segno++) seedSegment(storage, segment(segno))
  for (let segno = 6; segno <= 11; segno++) seedSegment(storage, segment(segno, 2))
  storage.seed(walKey(`${segment(6)}.partial`, 'zst'), zstdCompressSync(makeSegment(segment(6), { pages: 3 })))
  storage.seed('wal_005/00000002.history', makeHistory(2))
  storage.seed(`wal_005/${segment(0)}_delta.zst`, zstdCompressSync(Buffer.from('a map')))
  storage.seed(`wal_005/${segment(2)}.json`, '{}')
  const tail = makeSegment(segment(12, 2))
  storage.seed(tailKey(segment(12, 2), { from: 0, to: 8192 }, ''), tail.subarray(0, 8192))
  storage.seed(tailKey(segment(12, 2), { from: 8192, to: 16_384 }, ''), tail.subarray(8192, 16_384))
  const gap = { timeline: 1, startLsn: lsn(1), endLsn: lsn(2) }
  storage.seed(gapKey(gap), '{}')
  seedBackup(storage, full, { first: 2, last: 2, hour: 10 })
  seedBackup(storage, delta, { first: 4, last: 4, hour: 11, parent: full })
  seedBackup(storage, second, { first: 8, last: 8, hour: 12 })
  // A backup that is being taken.
  storage.seed(`${backupFolder('base_00000002000000000000000A')}tar_partitions/part_001.tar.zst`, 'not yet')
  storage.seed('walrx_005/backups/base_00000002000000000000000A.json', '{"owner":"x"}')
  return storage
}

/** Keys that belong to no whole copy. */
export const leftOut = (key: string): boolean => key.includes('base_00000002000000000000000A')

/** What a whole copy has. */
export function wholeOf(source: MemoryStorage): Map<string, string> {
  return contentOf(source, (key) => !leftOut(key))
}

/** Objects by key, as text. */
export function contentOf(storage: MemoryStorage, wants: (key: string) => boolean = () => true): Map<string, string> {
  const keys = [...storage.objects.keys()].filter(wants).sort()
  return new Map(keys.map((key) => [key, storage.peek(key)?.toString('base64') ?? '']))
}

/** Copies, with the options of a test. */
export function copy(
  source: MemoryStorage,
  target: MemoryStorage,
  request: CopyRequest = {},
  options: Partial<CopyOptions> = {},
): Promise<CopySummary> {
  return copyArchive({
    ...{ source, target, request },
    segmentSize: undefined,
    concurrency: 4,
    verify: false,
    dryRun: false,
    log: silentLog,
    clock: tickingClock,
    signal: new AbortController().signal,
    onVerify: () => Promise.resolve(),
    onProgress: () => {},
    ...options,
  })
}
