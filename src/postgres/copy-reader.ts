/**
 * Messages of a COPY OUT on a socket that is ours: the bytes of CopyData go on as they come, without being gathered;
 * every other message is small and is handed over whole.
 */
import { WalrxError } from '../primitives/errors.ts'
import type { ByteSocket } from './session.ts'

/** Where {@link CopyReader} delivers to. */
export interface CopyHandlers {
  /**
   * A piece of a CopyData message's payload; `isFirst` for the first piece of each message. The bytes are valid during
   * the call only, or until the returned promise resolves: until then nothing more is read, so they stay as they are.
   */
  onCopyData(bytes: Buffer, isFirst: boolean): void | Promise<void>
  /** Any other message, without type and length. */
  onMessage(type: string, body: Buffer): void
  /** The socket was closed; `error` when it broke. */
  onClose(error: Error | undefined): void
  /** A handler threw, or its promise was rejected, or the framing was lost: nothing more is delivered. */
  onError(error: Error): void
}

const headerBytes = 5
const copyData = 0x64
/** Results, notices and errors are small; a longer one means that we lost the framing. */
const messageBytesMax = 16 * 1024 * 1024

/** See the file's header. */
export class CopyReader {
  readonly #socket: ByteSocket
  readonly #handlers: CopyHandlers
  /** A header or small message that has not arrived whole. */
  #gathered: Buffer = Buffer.alloc(0)
  /** Bytes of the present CopyData still to come. */
  #copyLeft = 0
  #isFirst = false
  /** What was read while the consumer was busy: at most what one read holds, for the socket is paused. */
  #unread: Buffer[] = []
  #isHeld = false
  #ended = false

  constructor(socket: ByteSocket, handlers: CopyHandlers) {
    this.#socket = socket
    this.#handlers = handlers
  }

  /** Begins to read. */
  start(): void {
    this.#socket.start({
      onBytes: (chunk) => this.#onBytes(chunk),
      onClose: (error) => {
        if (this.#ended) return
        this.#ended = true
        this.#handlers.onClose(error)
      },
    })
  }

  /** Stops delivery until {@link release}: callable from within a handler. */
  hold(): void {
    if (this.#isHeld || this.#ended) return
    this.#isHeld = true
    this.#socket.pause()
  }

  /** Delivers again. */
  release(): void {
    if (!this.#isHeld || this.#ended) return
    this.#isHeld = false
    const unread = this.#unread
    this.#unread = []
    for (const chunk of unread) this.#onBytes(chunk)
    if (!this.#isHeld) this.#socket.resume()
  }

  /** Closes the socket. Nothing is delivered afterwards. */
  destroy(): void {
    this.#ended = true
    this.#unread = []
    this.#socket.destroy()
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    this.destroy()
    this.#handlers.onError(error instanceof Error ? error : new Error(String(error)))
  }

  #onBytes(chunk: Uint8Array): void {
    if (this.#ended) return
    if (this.#isHeld) {
      this.#unread.push(Buffer.from(chunk))
      return
    }
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    let at = 0
    try {
      while (at < bytes.length && !this.#ended) {
        at += this.#copyLeft > 0 ? this.#takeCopyData(bytes, at) : this.#takeMessage(bytes, at)
        if (this.#isHeld && at < bytes.length) {
          // The read buffer is used again.
          this.#unread.push(Buffer.from(bytes.subarray(at)))
          return
        }
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  #takeCopyData(bytes: Buffer, at: number): number {
    const length = Math.min(this.#copyLeft, bytes.length - at)
    const isFirst = this.#isFirst
    this.#copyLeft -= length
    this.#isFirst = false
    const busy = this.#handlers.onCopyData(bytes.subarray(at, at + length), isFirst)
    if (busy) {
      this.hold()
      busy.then(
        () => this.release(),
        (error: unknown) => this.#fail(error),
      )
    }
    return length
  }

  /** Takes what is there of a header or a small message; returns how many bytes that was. */
  #takeMessage(bytes: Buffer, at: number): number {
    const had = this.#gathered.length
    const wanted = had < headerBytes ? headerBytes : 1 + this.#gathered.readUInt32BE(1)
    const taken = Math.min(wanted - had, bytes.length - at)
    this.#gathered = Buffer.concat([this.#gathered, bytes.subarray(at, at + taken)])
    if (this.#gathered.length < wanted) return taken
    const length = this.#gathered.readUInt32BE(1)
    const type = this.#gathered[0] ?? 0
    const isCopyData = type === copyData
    if (length < 4 || (!isCopyData && length > messageBytesMax)) {
      throw new WalrxError('WALRX_PROTOCOL', `the server sent a message of type ${type} with a length of ${length}`)
    }
    if (isCopyData) {
      this.#copyLeft = length - 4
      this.#isFirst = true
      this.#gathered = Buffer.alloc(0)
    } else if (this.#gathered.length === 1 + length) {
      const body = this.#gathered.subarray(headerBytes)
      this.#gathered = Buffer.alloc(0)
      this.#handlers.onMessage(String.fromCharCode(type), body)
    }
    return taken
  }
}
