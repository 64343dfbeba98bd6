/**
 * Messages of PostgreSQL's protocol 3.0 that walrx itself writes and reads after the login: a type byte, a
 * big-endian int32 length that counts itself but not the type, then the body (protocol-message-formats in PostgreSQL's
 * documentation).
 */
import { WalrxError } from '../../primitives/errors.ts'
import { type Lsn, parseLsn, type Timeline } from '../lsn.ts'

/** Columns of a DataRow, raw; null is SQL's NULL. */
export type Row = readonly (Buffer | null)[]

/** Microseconds between PostgreSQL's epoch, 2000-01-01 UTC, and 1970. */
const postgresEpochUs = 946_684_800_000_000n

/** `Q`: one statement of the simple query protocol. */
export function encodeQuery(text: string): Buffer {
  const body = Buffer.from(`${text}\0`, 'utf8')
  const message = Buffer.allocUnsafe(5 + body.length)
  message[0] = 0x51
  message.writeUInt32BE(4 + body.length, 1)
  body.copy(message, 5)
  return message
}

/** The arguments of START_REPLICATION. */
export interface StartOptions {
  /** Undefined streams without a slot. */
  readonly slot: string | undefined
  readonly timeline: Timeline
  readonly startLsn: Lsn
}

/** `Q` with START_REPLICATION. It always names the timeline: without it a new primary would silently use its own. */
export function encodeStartReplication({ slot, startLsn, timeline }: StartOptions): Buffer {
  const withSlot = slot === undefined ? '' : `SLOT "${slot}" `
  const position = `${(startLsn >> 32n).toString(16)}/${(startLsn & 0xffffffffn).toString(16)}`
  return encodeQuery(`START_REPLICATION ${withSlot}PHYSICAL ${position} TIMELINE ${timeline}`)
}

/** `d`: CopyData. */
export function encodeCopyData(bytes: Uint8Array): Buffer {
  const message = Buffer.allocUnsafe(5 + bytes.length)
  message[0] = 0x64
  message.writeUInt32BE(4 + bytes.length, 1)
  message.set(bytes, 5)
  return message
}

/** `c`: CopyDone. */
export function encodeCopyDone(): Buffer {
  return Buffer.from([0x63, 0, 0, 0, 4])
}

/** The positions of a standby status update. 0/0 means "unknown". Each is one past the last byte. */
export interface StandbyStatus {
  readonly write: Lsn
  readonly flush: Lsn
  readonly apply: Lsn
  /** Asks the server for a keepalive at once. */
  readonly replyRequested: boolean
}

/** Bytes of one standby status update inside its CopyData. */
export const standbyStatusBytes = 39

/**
 * `d` with `r`: standby status update (walsender.c, ProcessStandbyReplyMessage): byte `r`, int64 write, flush, apply,
 * int64 microseconds since 2000, byte reply requested.
 * @param statuses one or more, written back to back so that they leave in one packet
 * @param nowMs milliseconds since 1970
 */
export function encodeStandbyStatus(statuses: readonly StandbyStatus[], nowMs: number): Buffer {
  const message = Buffer.alloc(standbyStatusBytes * statuses.length)
  statuses.forEach((status, index) => {
    const at = index * standbyStatusBytes
    message[at] = 0x64
    message.writeUInt32BE(standbyStatusBytes - 1, at + 1)
    message[at + 5] = 0x72
    message.writeBigUInt64BE(status.write, at + 6)
    message.writeBigUInt64BE(status.flush, at + 14)
    message.writeBigUInt64BE(status.apply, at + 22)
    message.writeBigInt64BE(BigInt(Math.round(nowMs)) * 1000n - postgresEpochUs, at + 30)
    message[at + 38] = status.replyRequested ? 1 : 0
  })
  return message
}

/**
 * Body of a DataRow: int16 column count, then int32 length (-1 for NULL) and bytes of each.
 * @returns views of `body`
 * @throws WALRX_PROTOCOL when the body ends before its last column does
 */
export function parseDataRow(body: Buffer): Row {
  const row: (Buffer | null)[] = []
  const columns = body.length < 2 ? 1 : body.readUInt16BE(0)
  let at = 2
  for (let column = 0; column < columns; column++) {
    const length = body.length < at + 4 ? Infinity : body.readInt32BE(at)
    at += 4
    if (length > body.length - at) {
      throw new WalrxError(
        'WALRX_PROTOCOL',
        `the server sent a DataRow of ${body.length} bytes that ends within column ${column + 1} of ${columns}`,
      )
    }
    row.push(length < 0 ? null : body.subarray(at, at + length))
    at += Math.max(length, 0)
  }
  return row
}

/** The timeline that follows a finished one. */
export interface NextTimeline {
  /** The server's next timeline. Never compute it: a failed promotion skips numbers. */
  readonly nextTimeline: Timeline
  /** The LSN of the fork. */
  readonly switchpoint: Lsn
}

/**
 * The row that ends a finished timeline: next_tli as int8 or int4, next_tli_startpos as text. Undefined for another.
 */
export function parseNextTimeline(row: Row): NextTimeline | undefined {
  const [timeline, position] = row.map((column) => column?.toString('latin1') ?? '')
  if (!/^[1-9]\d{0,9}$/.test(timeline ?? '') || !/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(position ?? ''))
    return undefined
  return { nextTimeline: Number(timeline), switchpoint: parseLsn(position ?? '') }
}

/**
 * Body of an ErrorResponse or NoticeResponse: field code byte and cstring, closed by a zero byte. Keys are the codes.
 */
export function parseErrorFields(body: Buffer): Record<string, string> {
  const fields: Record<string, string> = {}
  let at = 0
  while (at < body.length && body[at] !== 0) {
    const end = body.indexOf(0, at + 1)
    if (end === -1) break
    fields[String.fromCharCode(body[at] ?? 0)] = body.toString('utf8', at + 1, end)
    at = end + 1
  }
  return fields
}
