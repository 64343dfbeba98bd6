/**
 * An archive of any size that exists only as a rule: each key, size, time and content is computed when it is asked for. The
 * bench of large archives serves it as a bucket, or writes it into a directory.
 */
import { zstdCompressSync } from 'node:zlib'
import { segmentName } from '../src/postgres/wal/wal-file.ts'
import { MadeRecords, transactionRecord } from '../test/harness/made/made-records.ts'
import { madeSegmentSize, madeSystemId } from '../test/harness/made/made-wal.ts'

/** How large the archive is. */
export interface MadeArchiveSize {
  readonly segments: number
  readonly backups: number
}

/** One object. */
export interface MadeObject {
  readonly key: string
  readonly size: number
  readonly modifiedMs: number
}

/** Every seventh backup is a full one, the others build on the one before. */
const chainLength = 7
/** The first segment's number: timeline 1 never begins at 0. */
const firstSegno = 1
const walBytes = 300_000
const partBytes = 900_000_000
/** Blanks fill up each document, so that its size is known without it. */
const documentBytes = 1000
const minuteMs = 60_000

/** See the file's header. Keys are in the order of their bytes. */
export class MadeArchive {
  readonly size: MadeArchiveSize
  readonly count: number
  /** When the first segment came: the last one came a minute before this object was made. */
  readonly #beginMs: number
  /** Timeline 2 forks off after this many segments. */
  readonly #fork: number

  constructor(size: MadeArchiveSize) {
    this.size = size
    this.#fork = Math.floor(size.segments * 0.6)
    this.#beginMs = Date.now() - (size.segments + 1) * minuteMs
    this.count = size.backups * objectsOfBackup.length + size.segments + 2
  }

  /** The object at a place in the order. */
  at(index: number): MadeObject {
    const ofBackups = this.size.backups * objectsOfBackup.length
    if (index < ofBackups) {
      const backup = Math.floor(index / objectsOfBackup.length)
      const name = this.#backupName(backup)
      const object = objectsOfBackup[index % objectsOfBackup.length] ?? ''
      const size = object.includes('part_') ? partBytes : documentBytes
      return { key: `basebackups_005/${name}${object}`, size, modifiedMs: this.#backupMs(backup) + minuteMs }
    }
    const wal = index - ofBackups
    if (wal > this.size.segments) return { key: systemKey, size: documentBytes, modifiedMs: 0 }
    if (wal === this.#fork) {
      return { key: historyKey, size: documentBytes, modifiedMs: this.#walMs(this.#fork) }
    }
    const segment = wal < this.#fork ? wal : wal - 1
    return { key: this.#walKey(segment), size: walBytes, modifiedMs: this.#walMs(segment) }
  }

  /** The place of the first key that is not before this one. */
  indexOf(key: string): number {
    let [low, high] = [0, this.count]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.at(middle).key < key) low = middle + 1
      else high = middle
    }
    return low
  }

  /** True for keys that there are. */
  has(key: string): boolean {
    const index = this.indexOf(key)
    return index < this.count && this.at(index).key === key
  }

  /** The bytes of an object. Segments have a commit record each; parts are cut to a few bytes. */
  content(key: string): Buffer {
    const cached = this.#contents.get(key)
    if (cached) return cached
    const made = this.#make(key)
    const content = key.endsWith('.json') ? Buffer.concat([made, Buffer.alloc(documentBytes - made.length, ' ')]) : made
    if (this.#contents.size > 1000) this.#contents.clear()
    this.#contents.set(key, content)
    return content
  }

  readonly #contents = new Map<string, Buffer>()

  #make(key: string): Buffer {
    if (key === systemKey) {
      return Buffer.from(`{"SystemIdentifier":${madeSystemId},"WalSegmentSize":${madeSegmentSize}}`)
    }
    if (key === historyKey) {
      const end = lsnOf(firstSegno + this.#fork)
      return zstdCompressSync(
        Buffer.from(`1\t${(end >> 32n).toString(16)}/${(end & 0xffffffffn).toString(16)}\tmade\n`),
      )
    }
    if (key.startsWith('wal_005/')) return this.#segment(key.slice('wal_005/'.length, -'.zst'.length))
    const backup = this.#backupOf(key)
    if (key.endsWith('_backup_stop_sentinel.json')) return this.#sentinel(backup)
    if (key.endsWith('/metadata.json')) return this.#metadata(backup)
    if (key.endsWith('/files_metadata.json')) return Buffer.from('{}')
    return Buffer.from('made')
  }

  #segment(name: string): Buffer {
    const made = new MadeRecords(name, 1)
    // By the place of the segment: log number and the segment in it.
    const segno = parseInt(name.slice(8, 16), 16) * (2 ** 32 / madeSegmentSize) + parseInt(name.slice(16), 16)
    const since2000Ms = this.#walMs(segno - firstSegno) - Date.UTC(2000, 0, 1)
    made.add(transactionRecord(BigInt(since2000Ms) * 1000n))
    return zstdCompressSync(made.bytes)
  }

  #sentinel(backup: number): Buffer {
    const { finishLsn, startLsn, ...times } = this.#facts(backup)
    const step = backup % chainLength
    const delta =
      step === 0
        ? {}
        : {
            DeltaLSN: Number(this.#facts(backup - 1).startLsn),
            DeltaFrom: this.#backupName(backup - 1),
            DeltaFullName: this.#backupName(backup - step),
            DeltaCount: step,
          }
    const document = {
      LSN: Number(startLsn),
      ...delta,
      PgVersion: 170005,
      FinishLSN: Number(finishLsn),
      SystemIdentifier: 0,
      UncompressedSize: 3 * partBytes,
      CompressedSize: partBytes,
      Spec: { base_prefix: '/srv/pgdata', tablespaces: [] },
      ChkpNum: null,
      Version: 2,
      StartTime: times.start,
      FinishTime: times.finish,
      DateFmt: '%Y-%m-%dT%H:%M:%S.%fZ',
      Hostname: 'db1',
      DataDir: '/srv/pgdata',
      IsPermanent: false,
    }
    return withSystem(document, 'SystemIdentifier')
  }

  #metadata(backup: number): Buffer {
    const { finish, finishLsn, start, startLsn } = this.#facts(backup)
    const document = {
      start_time: start,
      finish_time: finish,
      date_fmt: '%Y-%m-%dT%H:%M:%S.%fZ',
      hostname: 'db1',
      data_dir: '/srv/pgdata',
      pg_version: 170005,
      start_lsn: Number(startLsn),
      finish_lsn: Number(finishLsn),
      is_permanent: false,
      system_identifier: 0,
      uncompressed_size: 3 * partBytes,
      compressed_size: partBytes,
    }
    return withSystem(document, 'system_identifier')
  }

  #facts(backup: number) {
    const segment = this.#segmentOf(backup)
    const start = this.#backupMs(backup)
    return {
      startLsn: lsnOf(firstSegno + segment) + 40n,
      finishLsn: lsnOf(firstSegno + segment) + 400n,
      start: new Date(start).toISOString(),
      finish: new Date(start + minuteMs / 2).toISOString(),
    }
  }

  #segmentOf(backup: number): number {
    return Math.floor((backup * this.size.segments) / this.size.backups)
  }

  #backupMs(backup: number): number {
    return this.#walMs(this.#segmentOf(backup))
  }

  #walMs(segment: number): number {
    return this.#beginMs + segment * minuteMs
  }

  #backupName(backup: number): string {
    const full = this.#walName(this.#segmentOf(backup))
    const isFull = backup % chainLength === 0
    return `base_${full}${isFull ? '' : `_D_${this.#walName(this.#segmentOf(backup - 1))}`}`
  }

  #backupOf(key: string): number {
    return Math.floor(this.indexOf(key) / objectsOfBackup.length)
  }

  #walName(segment: number): string {
    return segmentName(segment < this.#fork ? 1 : 2, BigInt(firstSegno + segment), madeSegmentSize)
  }

  #walKey(segment: number): string {
    return `wal_005/${this.#walName(segment)}.zst`
  }
}

const systemKey = 'walrx_005/system.json'
const historyKey = 'wal_005/00000002.history.zst'

/** What follows a backup's name, in the order of the keys. */
const objectsOfBackup = [
  '/files_metadata.json',
  '/metadata.json',
  '/tar_partitions/part_001.tar.zst',
  '/tar_partitions/pg_control.tar.zst',
  '_backup_stop_sentinel.json',
]

function lsnOf(segno: number): bigint {
  return BigInt(segno) * BigInt(madeSegmentSize)
}

/** The document with the system identifier, which JSON.stringify would round. */
function withSystem(document: object, field: string): Buffer {
  return Buffer.from(JSON.stringify(document).replace(`"${field}":0`, `"${field}":${madeSystemId}`))
}
