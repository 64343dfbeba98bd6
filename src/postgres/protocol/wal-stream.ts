/**
 * The parser of a walsender's stream: it turns the bytes of a socket into WAL bytes and events, without copying WAL. It
 * takes an idle replication connection over, sends START_REPLICATION itself and reads everything that follows.
 *
 * States, in order (walsender.c, StartReplication; protocol-replication in PostgreSQL's documentation):
 *   starting   sent the command; CopyBothResponse leads to streaming, the row of a finished timeline straight to ended
 *   streaming  CopyData with `w` (WAL) and `k` (keepalive); CopyDone leads to ending
 *   closing    we sent CopyDone first; WAL still under way is dropped until the server answers
 *   ending     answered CopyDone; the row that names the next timeline, CommandComplete, ReadyForQuery lead to ended
 *   ended      nothing more is read
 * A CommandComplete while streaming means that the server shuts down: it has sent all its WAL (`COPY 0`, no CopyDone).
 * An ErrorResponse or a closed socket ends any state.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { addBytes, type Lsn, toLsn } from '../lsn.ts'
import {
  encodeCopyDone,
  encodeStartReplication,
  type NextTimeline,
  parseDataRow,
  parseErrorFields,
  parseNextTimeline,
  type Row,
  type StartOptions,
} from './frames.ts'
import { serverErrorFromFields } from './server-error.ts'
import type { ByteSocket } from './session.ts'

/** The handlers of a stream. */
export interface WalSink {
  /**
   * WAL bytes that begin at `lsn`. They are valid only during the call.
   * @returns how many were taken; fewer than given pauses the stream until {@link WalStream.resume}
   * @throws WalrxError to end the stream with it (for example at a gap)
   */
  onWal(lsn: Lsn, bytes: Uint8Array): number
  /** The server's end of WAL, from every `w` and `k`; `replyRequested` when it wants a status update at once. */
  onServerEnd(serverEnd: Lsn, replyRequested: boolean): void
}

/** How a stream ended without an error. */
export type StreamEnd =
  /** The timeline is finished. */
  | ({ readonly kind: 'timeline' } & NextTimeline)
  /** The server shuts down and had nothing more to send. */
  | { readonly kind: 'shutdown' }

const messageHeaderBytes = 5
const walHeaderBytes = 25
/** Control messages are small; a longer one means that the framing is wrong. */
const controlMessageBytesMax = 1024 * 1024

const copyData = 0x64 // 'd'
const walData = 0x77 // 'w'
const keepalive = 0x6b // 'k'

/** One START_REPLICATION, from the command to its end. */
export class WalStream {
  readonly #socket: ByteSocket
  readonly #host: string
  readonly #sink: WalSink
  #state: 'starting' | 'streaming' | 'closing' | 'ending' | 'ended' = 'starting'
  #paused = false
  /** Bytes that were read from the socket but not taken yet: at most one read. */
  #rest: Uint8Array | undefined
  /** Bytes of a header or a control message that has not arrived completely. */
  #pending: Buffer = Buffer.alloc(0)
  /** WAL bytes of the current message still to come, and where they belong. */
  #walLeft = 0
  #walLsn = 0n as Lsn
  #row: Row | undefined
  readonly #started = Promise.withResolvers<void>()
  readonly #ended = Promise.withResolvers<StreamEnd>()

  constructor(socket: ByteSocket, host: string, sink: WalSink) {
    this.#socket = socket
    this.#host = host
    this.#sink = sink
    // The owner awaits both, perhaps after they have failed.
    this.#started.promise.catch(() => {})
    this.#ended.promise.catch(() => {})
  }

  /** Resolves when WAL flows. A server that lacks the WAL reports that only afterwards. */
  get started(): Promise<void> {
    return this.#started.promise
  }

  /** Resolves with the end; rejects with a WalrxError by SQLSTATE, WALRX_CONNECTION_LOST or the sink's error. */
  get ended(): Promise<StreamEnd> {
    return this.#ended.promise
  }

  /** Sends START_REPLICATION. */
  start(options: StartOptions): void {
    this.#socket.start({
      onBytes: (chunk) => this.#onBytes(chunk),
      onClose: (error) => this.#onClose(error),
    })
    this.#socket.write(encodeStartReplication(options))
  }

  /** Sends prepared CopyData messages in one write. Returns false, and sends nothing, while no stream flows. */
  send(messages: Uint8Array): boolean {
    if (this.#state !== 'streaming') return false
    this.#socket.write(messages)
    return true
  }

  /** True while the sink has not taken everything. */
  get paused(): boolean {
    return this.#paused
  }

  /** Offers the bytes that were not taken again, then continues to read. */
  resume(): void {
    if (!this.#paused || this.#state === 'ended') return
    this.#paused = false
    const rest = this.#rest
    this.#rest = undefined
    if (rest) this.#onBytes(rest)
    if (!this.#paused) this.#socket.resume()
  }

  /**
   * Ends the copy from this side: the server reads everything that was sent before, answers, and `ended` resolves. WAL
   * that arrives before the answer is dropped, and so are bytes that were not taken.
   */
  close(): void {
    if (this.#state === 'starting') return this.destroy()
    if (this.#state !== 'streaming') return
    this.#state = 'closing'
    this.#socket.write(encodeCopyDone())
    this.resume()
  }

  /** Closes the socket at once. `ended` rejects with WALRX_CONNECTION_LOST unless it is settled. */
  destroy(): void {
    this.#fail(new WalrxError('WALRX_CONNECTION_LOST', `the stream from ${this.#host} was closed`))
  }

  #onClose(error?: Error): void {
    const message = `the connection to ${this.#host} was closed${error ? `: ${error.message}` : ' by the server'}`
    this.#fail(new WalrxError('WALRX_CONNECTION_LOST', message, { cause: error }))
  }

  #fail(error: unknown): void {
    if (this.#state === 'ended') return
    this.#state = 'ended'
    this.#started.reject(error)
    this.#ended.reject(error)
    this.#socket.destroy()
  }

  #finish(end: StreamEnd): void {
    this.#state = 'ended'
    this.#started.resolve()
    this.#ended.resolve(end)
    this.#socket.destroy()
  }

  #onBytes(chunk: Uint8Array): void {
    if (this.#state === 'ended') return
    if (this.#paused) {
      // A read that had already started before the pause.
      this.#rest = this.#rest ? Buffer.concat([this.#rest, chunk]) : Buffer.from(chunk)
      return
    }
    try {
      const taken = this.#parse(chunk)
      if (taken < chunk.length && this.#paused) {
        this.#rest = Buffer.from(chunk.subarray(taken))
        this.#socket.pause()
      }
    } catch (error) {
      this.#fail(error)
    }
  }

  /** Consumes `chunk` as far as possible; stops early only when the sink is full or the stream has ended. */
  #parse(chunk: Uint8Array): number {
    let at = 0
    while (at < chunk.length && this.#state !== 'ended') {
      if (this.#walLeft > 0) {
        const piece = chunk.subarray(at, at + this.#walLeft)
        const taken = this.#state === 'streaming' ? this.#sink.onWal(this.#walLsn, piece) : piece.length
        this.#walLsn = addBytes(this.#walLsn, taken)
        this.#walLeft -= taken
        at += taken
        if (taken < piece.length) {
          this.#paused = true
          return at
        }
      } else {
        at += this.#parseHeader(chunk, at)
      }
    }
    return at
  }

  /** Collects one header (of a WAL message) or one control message, which may arrive in many reads. */
  #parseHeader(chunk: Uint8Array, at: number): number {
    const needed = this.#bytesNeeded(this.#pending)
    const piece = chunk.subarray(at, at + needed - this.#pending.length)
    const view = Buffer.from(piece.buffer, piece.byteOffset, piece.length)
    const collected = this.#pending.length === 0 ? view : Buffer.concat([this.#pending, view])
    if (collected.length < needed || this.#bytesNeeded(collected) > needed) {
      this.#pending = Buffer.from(collected)
    } else {
      this.#pending = Buffer.alloc(0)
      this.#onMessage(collected)
    }
    return piece.length
  }

  /** Bytes that must be collected before the next decision; grows once the pending ones show the message's kind. */
  #bytesNeeded(pending: Buffer): number {
    if (pending.length < messageHeaderBytes) return messageHeaderBytes
    const length = pending.readUInt32BE(1)
    if (length < 4) throw this.#broken(`message of impossible length ${length}`)
    if (pending[0] === copyData && length > 4) {
      if (pending.length < messageHeaderBytes + 1) return messageHeaderBytes + 1
      if (pending[messageHeaderBytes] === walData) {
        if (length < 4 + walHeaderBytes) throw this.#broken(`WAL message of ${length} bytes`)
        return messageHeaderBytes + walHeaderBytes
      }
    }
    if (length > controlMessageBytesMax) throw this.#broken(`control message of ${length} bytes`)
    return 1 + length
  }

  #broken(what: string): WalrxError {
    return new WalrxError('WALRX_PROTOCOL', `${this.#host} sent a ${what} in state ${this.#state}`)
  }

  #onMessage(message: Buffer): void {
    const type = message[0]
    if (type === copyData) return this.#onCopyData(message)
    const body = message.subarray(messageHeaderBytes)
    switch (String.fromCharCode(type ?? 0)) {
      case 'W': // CopyBothResponse
        if (this.#state !== 'starting') throw this.#broken('CopyBothResponse')
        this.#state = 'streaming'
        return this.#started.resolve()
      case 'E':
        throw serverErrorFromFields(parseErrorFields(body), this.#host, 'START_REPLICATION')
      case 'c': // CopyDone: this timeline has no more; our answer lets the server name the next one
        return this.#onCopyDone()
      case 'D':
        this.#row = parseDataRow(body)
        return
      case 'C': // CommandComplete: while streaming, a server that shuts down
        if (this.#state === 'streaming' || this.#state === 'closing') this.#finish({ kind: 'shutdown' })
        return
      case 'Z':
        return this.#onReady()
      case 'T': // RowDescription of the row that names the next timeline
      case 'N': // NoticeResponse
      case 'S': // ParameterStatus
      case 'A': // NotificationResponse
        return
      default:
        throw this.#broken(`message of type 0x${type?.toString(16)}`)
    }
  }

  #onCopyDone(): void {
    const weCameFirst = this.#state === 'closing'
    if (!weCameFirst && this.#state !== 'streaming') throw this.#broken('CopyDone')
    this.#state = 'ending'
    if (!weCameFirst) this.#socket.write(encodeCopyDone())
  }

  #onCopyData(message: Buffer): void {
    if (this.#state !== 'streaming' && this.#state !== 'closing') throw this.#broken('CopyData')
    const payload = message.subarray(messageHeaderBytes)
    if (payload[0] === walData) {
      this.#walLsn = toLsn(payload.readBigUInt64BE(1))
      this.#walLeft = message.readUInt32BE(1) - 4 - walHeaderBytes
      if (this.#state === 'streaming') this.#sink.onServerEnd(toLsn(payload.readBigUInt64BE(9)), false)
    } else if (payload[0] === keepalive && payload.length === 18) {
      if (this.#state === 'streaming') this.#sink.onServerEnd(toLsn(payload.readBigUInt64BE(1)), payload[17] === 1)
    } else {
      throw this.#broken(`CopyData of kind 0x${payload[0]?.toString(16)} and ${payload.length} bytes`)
    }
  }

  /** ReadyForQuery ends the command. A row before it names the next timeline; without it the server ended the copy. */
  #onReady(): void {
    if (this.#row) {
      const next = parseNextTimeline(this.#row)
      if (!next) throw this.#broken('row without a next timeline')
      return this.#finish({ kind: 'timeline', ...next })
    }
    if (this.#state === 'starting') throw this.#broken('ReadyForQuery without a copy or a next timeline')
    return this.#finish({ kind: 'shutdown' })
  }
}
