/**
 * WAL segments made up for tests: every page header is right, what is between them is not WAL that a server could
 * replay.
 */
import { createHash } from 'node:crypto'
import { parseSegmentName, segmentStartLsn } from '../../../src/postgres/wal/wal-file.ts'
import { walPageSize } from '../../../src/postgres/wal/wal-page.ts'

/** The segment size of these segments unless another is asked for: 1 MiB. */
export const madeSegmentSize = 1024 * 1024

/** The system identifier of the made-up cluster, above 2^53. */
export const madeSystemId = 7_455_523_487_659_893_045n

/** What differs from an ordinary segment of {@link madeSystemId}. */
export interface MadeSegment {
  readonly segmentSize?: number
  readonly systemId?: bigint
  /** Pages that are filled; the rest is zero, as after a WAL switch. Default all. */
  readonly pages?: number
  /** Timeline in the page headers. Default that of the name. */
  readonly timeline?: number
}

/** The whole bytes of a segment of this name. The same name gives the same bytes; others differ in every page. */
export function makeSegment(name: string, made: MadeSegment = {}): Buffer {
  const { segmentSize = madeSegmentSize, systemId = madeSystemId } = made
  const id = parseSegmentName(name, segmentSize)
  if (!id) throw new Error(`${name} is no segment`)
  const start = segmentStartLsn(id, segmentSize)
  const bytes = Buffer.alloc(segmentSize)
  const body = createHash('sha256').update(name).digest()
  const end = Math.min(segmentSize, (made.pages ?? Infinity) * walPageSize)
  for (let offset = 0; offset < end; offset += walPageSize) {
    bytes.fill(body, offset + 64, offset + walPageSize / 2)
    bytes.writeUInt16LE(0xd116, offset)
    bytes.writeUInt16LE(offset === 0 ? 0x0002 : 0, offset + 2)
    bytes.writeUInt32LE(made.timeline ?? id.timeline, offset + 4)
    bytes.writeBigUInt64LE(start + BigInt(offset), offset + 8)
  }
  bytes.writeBigUInt64LE(systemId, 24)
  bytes.writeUInt32LE(segmentSize, 32)
  bytes.writeUInt32LE(walPageSize, 36)
  return bytes
}

/** A history file of timeline 2 or 3. */
export function makeHistory(timeline: 2 | 3): string {
  const lines = ['1\t0/3000098\tno recovery target specified\n', '2\t0/5000098\tno recovery target specified\n']
  return lines.slice(0, timeline - 1).join('\n')
}
