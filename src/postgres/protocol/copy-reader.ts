/**
 * Reads the messages of a COPY OUT from a socket: it passes the bytes of CopyData on as they arrive, without collecting
 * or copying them; every other message is small and is delivered complete.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { ByteSocket } from './session.ts'

/** A handler's result: nothing, or a promise. Nothing more is delivered until it resolves. */
export type Busy = void | Promise<void>

/**
 * The handlers of a {@link CopyReader}. When a handler throws or its promise is rejected, `onError` gets the error, and
 * nothing more is delivered.
 */
export interface CopyHandlers {
  /**
   * Some bytes of a CopyData message's payload, never empty; `isFirst` for the first bytes of each message. They are a
   * view of the socket's read buffer: valid during the call and until its promise has resolved, because a paused socket
   * does not write to its buffer (transport.ts).
   */
  onCopyData(bytes: Buffer, isFirst: boolean): Busy
  /** Any other message: its type byte, and its body without type and length, which the receiver may keep. */
  onMessage(type: number, body: Buffer): Busy
  /** The socket was closed; `error` when it broke. */
  onClose(error: Error | undefined): void
  /** A handler failed, or the message framing is wrong; the socket is destroyed. */
  onError(error: Error): void
}

const headerBytes = 5
const copyData = 0x64
/** Rows, notices and errors are small; a longer message means that the framing is wrong. */
const messageBytesMax = 1024 * 1024

/** See the file's header. */
export class CopyReader {
  readonly #socket: ByteSocket
  readonly #handlers: CopyHandlers
  /** A header or a small message that has not arrived completely. */
  #gathered: Buffer = Buffer.alloc(0)
  /** Bytes of the current CopyData still to come. */
  #copyLeft = 0
  #isFirst = false
  /** A copy of the bytes that were read during a pause: at most one read, because the socket is paused. */
  readonly #unread: Buffer[] = []
  #isHeld = false
  #ended = false

  constructor(socket: ByteSocket, handlers: CopyHandlers) {
    this.#socket = socket
    this.#handlers = handlers
  }

  /** Starts reading. */
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

  /** Bytes that were read but not delivered. */
  get unreadBytes(): number {
    return this.#unread.reduce((sum, { length }) => sum + length, 0)
  }

  /** Stops delivery until {@link release}; a handler may call it, too. */
  hold(): void {
    if (this.#isHeld || this.#ended) return
    this.#isHeld = true
    this.#socket.pause()
  }

  /** Delivers again. */
  release(): void {
    if (!this.#isHeld || this.#ended) return
    this.#isHeld = false
    while (!this.#isHeld && !this.#ended) {
      const chunk = this.#unread.shift()
      if (!chunk) return this.#socket.resume()
      const rest = this.#consume(chunk)
      if (rest) this.#unread.unshift(rest)
    }
  }

  /** Closes the socket. Nothing is delivered afterwards. */
  destroy(): void {
    this.#ended = true
    this.#unread.length = 0
    this.#socket.destroy()
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    this.destroy()
    this.#handlers.onError(error instanceof Error ? error : new Error(String(error)))
  }

  #onBytes(chunk: Uint8Array): void {
    if (this.#ended) return
    const bytes = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length)
    // During a pause: a read that had already started.
    const rest = this.#isHeld ? bytes : this.#consume(bytes)
    // A copy, because the buffer is reused.
    if (rest) this.#unread.push(Buffer.from(rest))
  }

  /** Parses `bytes`; returns the rest of them when delivery was paused. */
  #consume(bytes: Buffer): Buffer | undefined {
    let at = 0
    try {
      while (at < bytes.length && !this.#ended) {
        if (this.#isHeld) return bytes.subarray(at)
        at += this.#copyLeft > 0 ? this.#takeCopyData(bytes, at) : this.#takeMessage(bytes, at)
      }
    } catch (error) {
      this.#fail(error)
    }
    return undefined
  }

  #takeCopyData(bytes: Buffer, at: number): number {
    const length = Math.min(this.#copyLeft, bytes.length - at)
    const isFirst = this.#isFirst
    this.#copyLeft -= length
    this.#isFirst = false
    this.#await(this.#handlers.onCopyData(bytes.subarray(at, at + length), isFirst))
    return length
  }

  /** Takes a CopyData's header or a small message; or the part that is there, which the next read continues. */
  #takeMessage(bytes: Buffer, at: number): number {
    if (this.#gathered.length > 0 || bytes.length - at < headerBytes) return this.#gather(bytes, at)
    const length = this.#lengthAt(bytes, at)
    if (bytes[at] === copyData) {
      this.#beginCopyData(length)
      return headerBytes
    }
    if (bytes.length - at < 1 + length) return this.#gather(bytes, at)
    this.#dispatch(Buffer.from(bytes.subarray(at, at + 1 + length)))
    return 1 + length
  }

  /** The rare case: a header or a small message in more than one read. */
  #gather(bytes: Buffer, at: number): number {
    const had = this.#gathered.length
    const wanted = had < headerBytes ? headerBytes : 1 + this.#lengthAt(this.#gathered, 0)
    const taken = Math.min(wanted - had, bytes.length - at)
    this.#gathered = Buffer.concat([this.#gathered, bytes.subarray(at, at + taken)])
    if (this.#gathered.length < headerBytes) return taken
    const length = this.#lengthAt(this.#gathered, 0)
    if (this.#gathered[0] === copyData) {
      this.#gathered = Buffer.alloc(0)
      this.#beginCopyData(length)
    } else if (this.#gathered.length === 1 + length) {
      const message = this.#gathered
      this.#gathered = Buffer.alloc(0)
      this.#dispatch(message)
    }
    return taken
  }

  #lengthAt(bytes: Buffer, at: number): number {
    const length = bytes.readUInt32BE(at + 1)
    if (length < 4 || (bytes[at] !== copyData && length > messageBytesMax)) {
      const type = bytes[at]?.toString(16)
      throw new WalrxError('WALRX_PROTOCOL', `the server sent a message of type 0x${type} and ${length} bytes`)
    }
    return length
  }

  #beginCopyData(length: number): void {
    this.#copyLeft = length - 4
    this.#isFirst = true
  }

  #dispatch(message: Buffer): void {
    this.#await(this.#handlers.onMessage(message[0] ?? 0, message.subarray(headerBytes)))
  }

  #await(busy: Busy): void {
    if (!busy) return
    this.hold()
    busy.then(
      () => this.release(),
      (error: unknown) => this.#fail(error),
    )
  }
}
