/** Messages as a walsender writes them, byte for byte (protocol-message-formats in PostgreSQL's documentation). */

/** A type byte, the length that counts itself, the body. */
export function message(type: string, body: Uint8Array = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeUInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}

/** `W`: from here on both sides send CopyData. */
export const copyBoth = message('W', Buffer.from([0, 0, 0]))
/** `c` */
export const copyDone = message('c')
/** `Z` */
export const readyForQuery = message('Z', Buffer.from('I'))
/** `T` of the row that names the next timeline; its content matters to nobody. */
export const rowDescription = message('T', Buffer.from([0, 2]))

/** `C` */
export function commandComplete(tag: string): Buffer {
  return message('C', Buffer.from(`${tag}\0`))
}

/** `d` with `w`: WAL bytes from `start` on, and the server's end of WAL. */
export function walMessage(start: bigint, bytes: Uint8Array, serverEnd: bigint = start + BigInt(bytes.length)): Buffer {
  const head = Buffer.alloc(25)
  head[0] = 0x77
  head.writeBigUInt64BE(start, 1)
  head.writeBigUInt64BE(serverEnd, 9)
  return message('d', Buffer.concat([head, bytes]))
}

/** `d` with `k`. */
export function keepaliveMessage(serverEnd: bigint, replyRequested = false): Buffer {
  const body = Buffer.alloc(18)
  body[0] = 0x6b
  body.writeBigUInt64BE(serverEnd, 1)
  body[17] = replyRequested ? 1 : 0
  return message('d', body)
}

/** `D`: columns as text, null for NULL. */
export function rowMessage(...columns: readonly (string | null)[]): Buffer {
  const parts: Buffer[] = [Buffer.alloc(2)]
  parts[0]?.writeUInt16BE(columns.length)
  for (const column of columns) {
    const length = Buffer.alloc(4)
    length.writeInt32BE(column === null ? -1 : Buffer.byteLength(column))
    parts.push(length, Buffer.from(column ?? ''))
  }
  return message('D', Buffer.concat(parts))
}

/** `E` */
export function errorMessage(sqlstate: string, text: string): Buffer {
  return message('E', Buffer.from(`SERROR\0VERROR\0C${sqlstate}\0M${text}\0\0`))
}

/** `N` */
export function noticeMessage(text: string): Buffer {
  return message('N', Buffer.from(`SNOTICE\0VNOTICE\0C00000\0M${text}\0\0`))
}

/** `S` */
export function parameterStatus(name: string, value: string): Buffer {
  return message('S', Buffer.from(`${name}\0${value}\0`))
}

/** Everything after walrx's CopyDone when a timeline has ended, with a status that a promotion inserts. */
export function endOfTimeline(nextTimeline: number, switchpoint: string): Buffer {
  return Buffer.concat([
    rowDescription,
    rowMessage(String(nextTimeline), switchpoint),
    commandComplete('START_STREAMING'),
    parameterStatus('in_hot_standby', 'off'),
    commandComplete('START_REPLICATION'),
    readyForQuery,
  ])
}
