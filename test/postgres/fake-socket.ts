/** The server's end of a {@link ByteSocket}, in the hands of a test. */
import type { ByteSocket, ByteSocketHandlers } from '../../src/postgres/protocol/session.ts'
import { type StandbyStatus, standbyStatusBytes } from '../../src/postgres/protocol/frames.ts'
import { toLsn } from '../../src/postgres/lsn.ts'

/**
 * Delivers through one reused block of memory that is overwritten after every read, as a socket with `onread` does, and
 * keeps what it may not deliver while the receiver has paused it.
 */
export class FakeSocket implements ByteSocket {
  /** What was written, one entry a write. */
  readonly writes: Buffer[] = []
  isPaused = false
  isDestroyed = false
  #handlers: ByteSocketHandlers | undefined
  readonly #memory = Buffer.alloc(64 * 1024)
  #queue: Buffer[] = []

  start(handlers: ByteSocketHandlers): void {
    this.#handlers = handlers
  }

  write(bytes: Uint8Array): void {
    if (!this.isDestroyed) this.writes.push(Buffer.from(bytes))
  }

  pause(): void {
    this.isPaused = true
  }

  resume(): void {
    this.isPaused = false
    queueMicrotask(() => this.#pump())
  }

  destroy(): void {
    this.close()
  }

  /** The connection ends, by an error or in silence. */
  close(error?: Error): void {
    if (this.isDestroyed) return
    this.isDestroyed = true
    queueMicrotask(() => this.#handlers?.onClose(error))
  }

  /** One read's worth of bytes. */
  deliver(...pieces: readonly Uint8Array[]): void {
    this.#queue.push(Buffer.concat(pieces))
    this.#pump()
  }

  /** A read that was under way already when the receiver paused. */
  deliverThoughPaused(bytes: Uint8Array): void {
    this.#read(Buffer.from(bytes))
  }

  #pump(): void {
    while (!this.isPaused && !this.isDestroyed && this.#queue.length > 0) this.#read(this.#queue.shift() as Buffer)
  }

  #read(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += this.#memory.length) {
      const length = bytes.copy(this.#memory, 0, at)
      this.#handlers?.onBytes(this.#memory.subarray(0, length))
      this.#memory.fill(0xee, 0, length)
    }
  }

  /** All standby status updates so far, one entry a write. */
  get statusWrites(): StandbyStatus[][] {
    return this.writes.filter((write) => write[0] === 0x64).map(decodeStatuses)
  }

  /** All standby status updates so far, in order. */
  get statuses(): StandbyStatus[] {
    return this.statusWrites.flat()
  }
}

/** Takes one write of standby status updates apart again. */
export function decodeStatuses(bytes: Buffer): StandbyStatus[] {
  return Array.from({ length: bytes.length / standbyStatusBytes }, (_, index) => {
    const message = bytes.subarray(index * standbyStatusBytes, (index + 1) * standbyStatusBytes)
    const [write, flush, apply] = [6, 14, 22].map((at) => toLsn(message.readBigUInt64BE(at)))
    if (write === undefined || flush === undefined || apply === undefined) throw new Error('never')
    return { write, flush, apply, replyRequested: message[38] === 1 }
  })
}
