/**
 * The protocol of WAL-G's daemon (docs/walg-format.md, 9; wal-g: internal/daemon/common.go, client.go): a stream of frames on
 * a unix socket.
 *
 *   request  type(1)  length(2, big-endian, of the whole frame)  body
 *            'C' check: any body    'F' wal-push: a file name
 *            'f' wal-fetch: count(1), then for each argument length(2, big-endian) and bytes
 *   reply    'O' done    'E' error    'N' the archive has no such file
 *
 * WAL-G's daemon replies with the type alone, WAL-RUS's with a frame without a body, and the client of each wants what its
 * daemon sends: WAL-G's takes the first byte of the answer, WAL-RUS's wants all three. So the reply is a frame, in one write,
 * and of a reply only the first byte is read.
 */
import { WalrxError } from '../primitives/errors.ts'

/** Types of requests. */
export type RequestType = 'C' | 'F' | 'f'

/** Types of replies. */
export type ReplyType = 'O' | 'E' | 'N'

/** A frame, taken apart. Its type may be any byte. */
export interface Frame {
  readonly type: string
  readonly body: Buffer
}

const headBytes = 3
const frameBytesMax = 0xffff

/** A reply, to be sent in one write. */
export function replyFrame(type: ReplyType): Buffer {
  return requestFrame(type, Buffer.alloc(0))
}

/** A frame. Throws WALRX_USAGE for a body that is too long for one. */
export function requestFrame(type: RequestType | ReplyType, body: Buffer): Buffer {
  const length = headBytes + body.length
  if (length > frameBytesMax) {
    throw new WalrxError(
      'WALRX_USAGE',
      `a request of ${length} bytes is more than the ${frameBytesMax} of the protocol`,
    )
  }
  const head = Buffer.from([type.charCodeAt(0), 0, 0])
  head.writeUInt16BE(length, 1)
  return Buffer.concat([head, body])
}

/** The body of a request with several arguments. */
export function encodeArguments(words: readonly string[]): Buffer {
  const parts = [Buffer.from([words.length])]
  for (const word of words) {
    const bytes = Buffer.from(word)
    const length = Buffer.alloc(2)
    length.writeUInt16BE(Math.min(bytes.length, frameBytesMax))
    parts.push(length, bytes)
  }
  return Buffer.concat(parts)
}

/** The arguments of a body; undefined for one that does not hold exactly what it says. */
export function decodeArguments(body: Buffer): string[] | undefined {
  const words: string[] = []
  let at = 1
  for (let left = body[0] ?? -1; left > 0; left--) {
    if (at + 2 > body.length) return undefined
    const end = at + 2 + body.readUInt16BE(at)
    if (end > body.length) return undefined
    words.push(body.toString('utf8', at + 2, end))
    at = end
  }
  return at === body.length ? words : undefined
}

/** Puts frames together from whatever pieces come. It holds less than two frames, if each piece is one at most. */
export class FrameReader {
  #bytes: Buffer = Buffer.alloc(0)

  /** Bytes of a frame that is not complete, or of further ones. */
  get pendingBytes(): number {
    return this.#bytes.length
  }

  /** Takes a piece of the stream. */
  add(piece: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? piece : Buffer.concat([this.#bytes, piece])
  }

  /** The next frame; undefined while it is not complete. Throws WALRX_PROTOCOL for a length that no frame has. */
  next(): Frame | undefined {
    if (this.#bytes.length < headBytes) return undefined
    const length = this.#bytes.readUInt16BE(1)
    if (length < headBytes) throw new WalrxError('WALRX_PROTOCOL', `a request says that it has ${length} bytes`)
    if (this.#bytes.length < length) return undefined
    const frame = { type: String.fromCharCode(this.#bytes[0] ?? 0), body: this.#bytes.subarray(headBytes, length) }
    this.#bytes = this.#bytes.subarray(length)
    return frame
  }
}
