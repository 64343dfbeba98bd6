/**
 * The first and the last moment of a restore window. The first is when its backup finished, by the clock of the machine
 * that took it. The last is the end of the last transaction in its WAL, by the server's clock: the only times that a
 * recovery compares recovery_target_time with. WAL is read for it, from the end backwards, until a transaction ends there.
 */
import { hasCode, isOfKey, WalrxError } from '../../primitives/errors.ts'
import { addBytes, type Lsn, maxLsn, segmentNumber, segmentStart, toLsn } from '../../postgres/lsn.ts'
import type { TimestampTz } from '../../postgres/timestamp.ts'
import { segmentName } from '../../postgres/wal/wal-file.ts'
import { laterTransactionTime } from '../../postgres/wal/wal-record.ts'
import { WalRecordReader } from '../../postgres/wal/wal-record-reader.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import { knownTimestamp } from '../../walg/backup/backup-time.ts'
import { assembleForked } from '../../walg/wal/forked-tail.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import { mapInParallel } from '../map-in-parallel.ts'
import type { WalInventory } from '../wal-inventory.ts'
import type { RestoreWindow } from './restore-window.ts'

/** A window with its moments. */
export interface TimedWindow extends RestoreWindow {
  /** When its backup finished; undefined where the sentinel does not say it. */
  readonly startTime: TimestampTz | undefined
  /** When the last transaction in it ended; undefined where none was found. */
  readonly endTime: TimestampTz | undefined
  /** Why there is no end time, for people; undefined where there is one. */
  readonly note: string | undefined
}

/** WAL that is searched for the last transaction: more would make a listing of an idle cluster slow. */
const searchedBytesMax = 256 * 1024 * 1024

/**
 * Adds the times to a window: mostly one segment, or the chunks of a tail, is read. A `.partial` that reaches farther than
 * the window moves the window's end.
 * @throws what the storage throws; WAL that cannot be read makes a note
 */
export async function withTimes(
  reader: WalReader,
  inventory: WalInventory,
  window: RestoreWindow,
  options?: StorageCallOptions,
): Promise<TimedWindow> {
  const startTime = knownTimestamp(window.backup.sentinel?.finishTime)
  try {
    const search = new CommitSearch(reader, inventory, window, options)
    const endLsn = await search.endWithPartial()
    const { endTime, isWhole } = await search.last()
    const note = isWhole ? 'no transaction ended in it' : 'no transaction ended in the last WAL of it that was read'
    return { ...window, endLsn, startTime, endTime, note: endTime === undefined ? note : undefined }
  } catch (error) {
    if (!isUnreadable(error)) throw error
    return { ...window, startTime, endTime: undefined, note: `its WAL cannot be read: ${error.message}` }
  }
}

/** Windows that are searched at a time: each holds a segment's bytes as they pass, or a tail. */
const searchedAtOnce = 4

/** The windows whose last WAL is read: an archive with holes may have thousands. */
const timedMax = 20

/** Why a window has no times, where there are more of them. */
const untimed = `times are read for the last ${timedMax} windows only`

/** As {@link withTimes}, for the last ones of several windows; the others come without times. */
export async function allWithTimes(
  reader: WalReader,
  inventory: WalInventory,
  windows: readonly RestoreWindow[],
  options?: StorageCallOptions,
): Promise<TimedWindow[]> {
  const first = Math.max(0, windows.length - timedMax)
  const last = windows.slice(first)
  const timed = await mapInParallel(last, (window) => withTimes(reader, inventory, window, options), searchedAtOnce)
  const before = windows.slice(0, first).map((window): TimedWindow => {
    return { ...window, startTime: undefined, endTime: undefined, note: untimed }
  })
  return [...before, ...timed]
}

const unreadable = [
  'WALRX_ARCHIVE_CONFLICT',
  'WALRX_CODEC_UNSUPPORTED',
  'WALRX_KEY_UNAVAILABLE',
  'WALRX_OBJECT_DAMAGED',
  'WALRX_OBJECT_NOT_FOUND',
  'WALRX_WAL_INVALID',
] as const

function isUnreadable(error: unknown): error is WalrxError {
  return isOfKey(error) || unreadable.some((code) => hasCode(error, code))
}

/** Zeros up to a multiple of this complete a page of any size. */
const walPageSizeMax = 64 * 1024

/** The last page is read as the server gets it: with zeros after the last byte. */
function writePadded(records: WalRecordReader, bytes: Buffer): void {
  records.write(bytes)
  records.write(Buffer.alloc(-bytes.length & (walPageSizeMax - 1)))
}

/** Reads the WAL of a window backwards, a segment at a time. */
class CommitSearch {
  readonly #reader: WalReader
  readonly #inventory: WalInventory
  readonly #window: RestoreWindow
  readonly #options: StorageCallOptions | undefined
  #endLsn: Lsn
  /** The tail of a segment, where it was read already. */
  #tail: { readonly segno: bigint; readonly bytes: Buffer } | undefined
  #extension: string | undefined

  constructor(reader: WalReader, inventory: WalInventory, window: RestoreWindow, options?: StorageCallOptions) {
    this.#reader = reader
    this.#inventory = inventory
    this.#window = window
    this.#options = options
    this.#endLsn = window.endLsn
  }

  /** The end of the window; only a partial's own bytes show how far it reaches. */
  async endWithPartial(): Promise<Lsn> {
    const { segmentSize, timelines } = this.#inventory
    const { endLsn, timeline } = this.#window
    const { partial, ranges = [] } = timelines.find((entry) => entry.timeline === timeline) ?? {}
    const segno = segmentNumber(endLsn, segmentSize)
    const isThere = ranges.some(({ first, last }) => first <= segno && segno <= last)
    if (partial !== segno || isThere || this.#window.end.kind === 'break') return endLsn
    const tail = await assembleForked(this.#reader, segmentName(timeline, segno, segmentSize), this.#options)
    if (!tail) return endLsn
    this.#tail = { segno, bytes: tail.bytes }
    // Zeros at the end of the last record look like padding.
    let end = addBytes(segmentStart(endLsn, segmentSize), tail.bytes.length)
    writePadded(new WalRecordReader((record) => (end = maxLsn(end, record.end))), tail.bytes)
    this.#endLsn = maxLsn(this.#endLsn, this.#upToFork(end))
    return this.#endLsn
  }

  /** Nothing of a tail is delivered after the place where a newer timeline left this one. */
  #upToFork(end: Lsn): Lsn {
    let until = end
    for (const { ancestors } of this.#inventory.timelines) {
      const fork = ancestors.find(({ timeline }) => timeline === this.#window.timeline)?.switchpoint
      if (fork !== undefined && fork < until) until = fork
    }
    return until
  }

  /** The latest end of a transaction in the last segment that has any; not whole where the search gave up. */
  async last(): Promise<{ endTime: TimestampTz | undefined; isWhole: boolean }> {
    const { segmentSize } = this.#inventory
    const last = segmentNumber(toLsn(this.#endLsn - 1n), segmentSize)
    const first = segmentNumber(this.#window.startLsn, segmentSize)
    const atMost = BigInt(Math.max(1, Math.floor(searchedBytesMax / segmentSize)))
    for (let segno = last; segno >= first; segno--) {
      if (last - segno >= atMost) return { endTime: undefined, isWhole: false }
      const endTime = await this.#latestIn(segno, segno < last)
      if (endTime !== undefined) return { endTime, isWhole: true }
    }
    return { endTime: undefined, isWhole: true }
  }

  /** Of the records that begin in a segment; the last of them may end in the next one. */
  async #latestIn(segno: bigint, hasNext: boolean): Promise<TimestampTz | undefined> {
    const { startLsn } = this.#window
    const nextStart = toLsn((segno + 1n) * BigInt(this.#inventory.segmentSize))
    let found: TimestampTz | undefined
    let isPast = false
    const records = new WalRecordReader((record) => {
      isPast ||= record.start >= nextStart || record.end >= nextStart
      if (record.start >= nextStart || record.start < startLsn || record.end > this.#endLsn) return
      found = laterTransactionTime(record, found)
    })
    await this.#feed(records, segno, () => false)
    if (hasNext && !isPast) await this.#feed(records, segno + 1n, () => isPast || records.end !== undefined)
    return found
  }

  /** Passes on a segment, or its tail, as the server would get it. */
  async #feed(records: WalRecordReader, segno: bigint, isDone: () => boolean): Promise<void> {
    const names = this.#names(segno)
    for (const name of names) {
      const file = await this.#reader.openWalFile(name, this.#extension, this.#options)
      if (!file) continue
      this.#extension = file.extension
      for await (const chunk of file.body) {
        records.write(chunk)
        if (isDone()) return
      }
      return
    }
    for (const name of names) {
      const bytes = this.#tail?.segno === segno ? this.#tail.bytes : await this.#tailBytes(segno, name)
      if (!bytes) continue
      writePadded(records, bytes)
      return
    }
    throw new WalrxError('WALRX_OBJECT_NOT_FOUND', `segment ${names[0]} was removed from the archive meanwhile`)
  }

  async #tailBytes(segno: bigint, name: string): Promise<Buffer | undefined> {
    const tail = await assembleForked(this.#reader, name, this.#options)
    if (tail) this.#tail = { segno, bytes: tail.bytes }
    return tail?.bytes
  }

  /** The names under which a recovery asks for a segment, that of the newest timeline first. */
  #names(segno: bigint): string[] {
    const { segmentSize } = this.#inventory
    return this.#window.chain.links
      .filter(({ begin, end }) => {
        return (
          segmentNumber(begin, segmentSize) <= segno && (end === undefined || segmentNumber(end, segmentSize) >= segno)
        )
      })
      .map(({ timeline }) => segmentName(timeline, segno, segmentSize))
      .reverse()
  }
}
