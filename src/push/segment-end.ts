/**
 * Segments whose end is not what their primary wrote, on a standby that archives what it receives (archive_mode = always). The
 * file of such a segment was that of an older one (recycled), and walreceiver wrote only a part of it:
 *
 * - The primary has changed timelines within the segment. walreceiver closes it as it is, and has it archived under its whole
 *   name (walreceiver.c, WalReceiverMain). A primary names such a segment `.partial`.
 * - A WAL switch ends the segment, and the standby was restarted before it had received the zeros after it. It replays the
 *   switch, and asks for the next segment; a later restartpoint marks this one as ready (XLogArchiveCheckDone).
 *
 * No recovery reads what is there. What is there instead is judged by the WAL itself, never guessed.
 */
import { opendir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { hasCode } from '../primitives/errors.ts'
import { readRegular } from '../primitives/regular-file.ts'
import { type HistoryEntry, walFileKind } from '../postgres/wal/wal-file.ts'
import { checkSegment, decodePageHeader, firstNonZero } from '../postgres/wal/wal-page.ts'
import { checkHistory } from '../postgres/wal/wal-text-file.ts'
import type { LocalSegment, LocalWalFile } from './local-wal.ts'

/**
 * Looks at a segment that does not go on to its end, and zeroes what is after its last record where that is needed.
 * @param segment is not {@link isFilled}
 * @param buffer begins with the segment, whose first page was checked
 * @returns the length in bytes of one that its timeline ends in; undefined for one that is whole, or damaged
 */
export async function settleEnd(
  local: LocalWalFile,
  segment: LocalSegment,
  buffer: Buffer,
): Promise<number | undefined> {
  const { segmentSize } = segment
  const expected = { ...segment, name: local.name, magic: undefined }
  const isWhole = passes(() => (checkSegment(buffer, expected), true))
  const end = await timelineEnd(local, segment)
  // With WAL after it, the timeline went on: this server has left it later, or is not on that history.
  if (end !== undefined && !(isWhole && firstNonZero(buffer, end, segmentSize) !== -1)) {
    buffer.fill(0, end, segmentSize)
    // Where what is before it is damaged, the segment stays so.
    if (isWhole || passes(() => (checkSegment(buffer, expected), true))) return end
  }
  if (!isWhole) await zeroAfterSwitch(segment, buffer)
  return undefined
}

function passes(check: () => boolean): boolean {
  try {
    return check()
  } catch (error) {
    if (hasCode(error, 'WALRX_WAL_INVALID')) return false
    throw error
  }
}

/** Where the server has left the segment's timeline, as an offset within the segment; undefined for elsewhere, or nowhere. */
async function timelineEnd({ path }: LocalWalFile, segment: LocalSegment): Promise<number | undefined> {
  const { segmentSize, startLsn, timeline } = segment
  const folder = dirname(path)
  // A path of another program, or no right to look: nothing is known then.
  for await (const { name } of await opendir(folder, { bufferSize: 1024 }).catch(() => [])) {
    if (walFileKind(name) !== 'history' || parseInt(name.slice(0, 8), 16) <= timeline) continue
    const entry = (await historyAt(join(folder, name), name)).find((each) => each.timeline === timeline)
    const offset = entry ? Number(entry.switchpoint - startLsn) : -1
    if (offset > 0 && offset < segmentSize) return offset
  }
  return undefined
}

/** A history that cannot be read proves nothing here. It is reported when it is archived itself. */
async function historyAt(path: string, name: string): Promise<HistoryEntry[]> {
  try {
    return checkHistory(await readRegular(path), name)
  } catch {
    return []
  }
}

/** Bytes of the header of a page that is not the first one of a segment. */
const pageHeaderSize = 24

/** Makes the bytes after a WAL switch what the primary made them. */
async function zeroAfterSwitch({ segmentSize, startLsn }: LocalSegment, buffer: Buffer): Promise<void> {
  // Loaded here, because hardly any segment needs it.
  const [{ WalRecordReader }, { isSwitch, recordHeaderSize }] = await Promise.all([
    import('../postgres/wal/wal-record-reader.ts'),
    import('../postgres/wal/wal-record.ts'),
  ])
  let start: number | undefined
  const reader = new WalRecordReader((record) => {
    if (isSwitch(record)) start = Number(record.start - startLsn)
  })
  reader.write(buffer.subarray(0, segmentSize))
  if (start === undefined || reader.end !== undefined) return
  // It has no more than its header, which may cross a page.
  const pageSize = decodePageHeader(buffer)?.long?.pageSize ?? segmentSize
  const isCrossing = (start % pageSize) + recordHeaderSize > pageSize
  buffer.fill(0, start + recordHeaderSize + (isCrossing ? pageHeaderSize : 0), segmentSize)
}
