/** One connection of the fake cluster after START_REPLICATION: the server's end of a ByteSocket. */
import type { Timer } from '../../src/primitives/clock.ts'
import { addBytes, type Lsn, minLsn, parseLsn, segmentStart, type Timeline, toLsn } from '../../src/postgres/lsn.ts'
import type { ByteSocket, ByteSocketHandlers } from '../../src/postgres/protocol/session.ts'
import type { FakeHost } from './fake-host.ts'
import { segmentSize } from './recorded-wal.ts'

/** walsender.c: MAX_SEND_SIZE. */
const sendBytesMax = 131_072
/** What fits into the sockets' buffers while the receiver does not read. */
const socketBufferBytes = 400_000
/** Longest read that the receiver is given when several messages, or parts of them, come at once. */
const readBytesMax = 64 * 1024
/** Where such a read is put together. It is used again for the next one: who keeps it will find other bytes there. */
const read = Buffer.alloc(readBytesMax)

function message(type: string, body: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeUInt32BE(4 + body.length, 1)
  return Buffer.concat([head, body])
}

function text(value: string): Buffer {
  const length = Buffer.alloc(4)
  length.writeInt32BE(value.length)
  return Buffer.concat([length, Buffer.from(value)])
}

/** See the file's header. */
export class FakeWalsender implements ByteSocket {
  /** The slot that START_REPLICATION named; empty for none. */
  slot = ''
  readonly #host: FakeHost
  #handlers: ByteSocketHandlers | undefined
  #timeline: Timeline = 0
  #sent = 0n as Lsn
  #state: 'idle' | 'streaming' | 'done' | 'closed' = 'idle'
  #isPaused = false
  #isShuttingDown = false
  /** Sent by the server, not read by the receiver yet: headers, and WAL where it lies. */
  #buffered: Buffer[] = []
  #bufferedBytes = 0
  #lastReplyMs: number
  #write = 0n as Lsn
  #flush = 0n as Lsn
  #timer: Timer | undefined
  #pingTimer: Timer | undefined

  constructor(host: FakeHost) {
    this.#host = host
    this.#lastReplyMs = host.around.clock.now()
  }

  start(handlers: ByteSocketHandlers): void {
    this.#handlers = handlers
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    this.#isPaused = false
    this.wake()
  }

  destroy(): void {
    this.#close(undefined)
  }

  /** The connection breaks, perhaps in the middle of a message that is half delivered. */
  cut(reason: string): void {
    if (this.#state === 'closed') return
    const { random } = this.#host.around
    if (this.#state === 'streaming' && random.chance(0.5) && !this.#isPaused) {
      const half = this.#buffered[0]
      if (half) this.#handlers?.onBytes(Buffer.from(half.subarray(0, random.int(0, half.length))))
    }
    this.#close(new Error(reason))
  }

  /** Begins the end of a fast shutdown. */
  shutDown(): void {
    this.#isShuttingDown = true
    if (this.#state !== 'streaming') this.#close(undefined)
    this.wake()
  }

  #close(error: Error | undefined): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#timer?.cancel()
    this.#pingTimer?.cancel()
    this.#host.senders.delete(this)
    this.#buffered = []
    queueMicrotask(() => this.#handlers?.onClose(error))
  }

  /** Bytes from the receiver: whole messages, one or more. */
  write(bytes: Uint8Array): void {
    if (this.#state === 'closed') return
    const data = Buffer.from(bytes)
    for (let at = 0; at < data.length;) {
      const length = data.readUInt32BE(at + 1)
      this.#onMessage(String.fromCharCode(data[at] ?? 0), data.subarray(at + 5, at + 1 + length))
      at += 1 + length
    }
  }

  #onMessage(type: string, body: Buffer): void {
    const { around } = this.#host
    this.#lastReplyMs = around.clock.now()
    if (type === 'Q') queueMicrotask(() => this.#onStart(body.toString('latin1', 0, body.length - 1)))
    else if (type === 'c') queueMicrotask(() => this.#onCopyDone())
    else if (type === 'd' && body[0] === 0x72) {
      const [write, flush, apply] = [1, 9, 17].map((at) => toLsn(body.readBigUInt64BE(at))) as [Lsn, Lsn, Lsn]
      this.#write = write
      this.#flush = flush
      around.onStatus({ host: this.#host, slot: this.slot, timeline: this.#timeline, write, flush, apply })
      if (flush > 0n) this.#host.confirm(this.slot, flush)
      if (body[33] === 1) queueMicrotask(() => this.#keepalive(false))
      this.wake()
    } else throw new Error(`the receiver sent a message ${type} that no walsender expects`)
  }

  #onStart(command: string): void {
    const match = /^START_REPLICATION (SLOT "(\w+)" )?PHYSICAL ([0-9a-f]+\/[0-9a-f]+) TIMELINE (\d+)$/.exec(command)
    if (!match) throw new Error(`unexpected command: ${command}`)
    const { walSenderTimeoutMs } = this.#host
    const { clock, random } = this.#host.around
    this.slot = match[2] ?? ''
    this.#timeline = Number(match[4])
    this.#sent = parseLsn(match[3] ?? '')
    this.#host.around.onStart(this.slot, this.#sent)
    const link = this.#host.chain().link(this.#timeline)
    if (!link) return this.#fail('XX000', `requested timeline ${match[4]} is not in this server's history`)
    if (link.end !== undefined && this.#sent > link.end)
      return this.#fail('XX000', 'requested starting point is past the switchpoint')
    if (link.end !== undefined && this.#sent === link.end) return this.#endOfTimeline()
    this.#deliver(message('W', Buffer.from([0, 0, 0])))
    if (this.#sent < this.#host.oldestLsn) {
      this.#host.around.onRemoved(this.#sent)
      return this.#fail('58P01', 'requested WAL segment has already been removed')
    }
    this.#state = 'streaming'
    this.#isShuttingDown ||= !this.#host.isUp
    const ping = () => {
      if (this.#state === 'closed') return
      if (clock.now() - this.#lastReplyMs > walSenderTimeoutMs) return this.cut('terminating walsender due to timeout')
      if (clock.now() - this.#lastReplyMs > walSenderTimeoutMs / 2) this.#keepalive(true)
      this.#pingTimer = clock.setTimer(walSenderTimeoutMs / 4, ping)
    }
    this.#pingTimer = clock.setTimer(random.int(1, walSenderTimeoutMs / 4), ping)
    this.wake()
  }

  #fail(sqlstate: string, words: string): void {
    this.#deliver(message('E', Buffer.from(`SERROR\0VERROR\0C${sqlstate}\0M${words}\0\0`)))
    this.#close(undefined)
  }

  #onCopyDone(): void {
    if (this.#state === 'streaming') {
      this.#deliver(message('c', Buffer.alloc(0)))
      this.#deliver(message('C', Buffer.from('COPY 0\0')))
      return this.#close(undefined)
    }
    if (this.#state === 'done') this.#endOfTimeline()
  }

  #endOfTimeline(): void {
    const chain = this.#host.chain()
    const next = chain.after(this.#timeline)
    if (!next) throw new Error(`timeline ${this.#timeline} has no successor`)
    const position = `${(next.begin >> 32n).toString(16)}/${(next.begin & 0xffffffffn).toString(16)}`
    this.#deliver(message('T', Buffer.from([0, 2])))
    this.#deliver(message('D', Buffer.concat([Buffer.from([0, 2]), text(String(next.timeline)), text(position)])))
    this.#deliver(message('C', Buffer.from('START_STREAMING\0')))
    this.#deliver(message('S', Buffer.from('in_hot_standby\0off\0')))
    this.#deliver(message('C', Buffer.from('START_REPLICATION\0')))
    this.#deliver(message('Z', Buffer.from('I')))
  }

  #keepalive(replyRequested: boolean): void {
    const body = Buffer.alloc(18)
    body[0] = 0x6b
    body.writeBigUInt64BE(this.#sent, 1)
    body[17] = replyRequested ? 1 : 0
    this.#deliver(message('d', body))
  }

  /** There may be something to send: does a little, then comes back. */
  wake(): void {
    if (this.#state === 'closed' || this.#timer) return
    const { clock, random } = this.#host.around
    this.#timer = clock.setTimer(random.int(0, 30), () => {
      this.#timer = undefined
      this.#step()
    })
  }

  #step(): void {
    this.#flushBuffered()
    if (this.#state !== 'streaming' || this.#bufferedBytes >= socketBufferBytes) return
    const { random } = this.#host.around
    const link = this.#host.chain().link(this.#timeline)
    const end = link?.end ?? (this.#timeline === this.#host.timeline ? this.#host.end : this.#sent)
    for (let messages = random.int(1, 6); messages > 0 && this.#sent < end; messages--) this.#sendWal(end)
    if (this.#sent < end) return this.wake()
    if (link?.end !== undefined) {
      this.#state = 'done'
      return this.#deliver(message('c', Buffer.alloc(0)))
    }
    if (this.#isShuttingDown) this.#stepShutdown()
  }

  /** WalSndDone: all sent and confirmed (by write when flush is invalid), or ask again. */
  #stepShutdown(): void {
    const replicated = this.#flush === 0n ? this.#write : this.#flush
    if (replicated === this.#sent && this.#bufferedBytes === 0) {
      this.#state = 'done'
      this.#deliver(message('C', Buffer.from('COPY 0\0')))
      return this.#close(undefined)
    }
    this.#keepalive(true)
    this.wake()
  }

  #sendWal(end: Lsn): void {
    const { random } = this.#host.around
    const size = random.chance(0.1) ? random.int(1, 100) : random.int(8_192, sendBytesMax)
    const segmentEnd = addBytes(segmentStart(this.#sent, segmentSize), segmentSize)
    // Messages end where segments do more often than not: WAL is read file by file (WALRead in xlogreader.c).
    const limit = random.chance(0.7) ? minLsn(end, segmentEnd) : end
    const stop = minLsn(limit, addBytes(this.#sent, size))
    const wal = this.#host.wal(this.#timeline, this.#sent, stop)
    const head = Buffer.alloc(30)
    head.write('d', 0, 'latin1')
    head.writeUInt32BE(4 + 25 + wal.length, 1)
    head[5] = 0x77
    head.writeBigUInt64BE(this.#sent, 6)
    head.writeBigUInt64BE(end, 14)
    this.#deliver(head, wal)
    this.#sent = stop
  }

  #deliver(...pieces: Buffer[]): void {
    this.#buffered.push(...pieces)
    for (const { length } of pieces) this.#bufferedBytes += length
    if (
      this.#bufferedBytes < socketBufferBytes / 2 &&
      this.#host.around.random.chance(0.5) &&
      this.#state === 'streaming'
    )
      return
    this.#flushBuffered()
  }

  /** Hands over what the receiver is willing to read, in pieces that have nothing to do with messages. */
  #flushBuffered(): void {
    const { random } = this.#host.around
    while (!this.#isPaused && this.#buffered.length > 0 && this.#handlers && this.#state !== 'closed') {
      const wanted = random.chance(0.5) ? random.int(1, readBytesMax) : 0
      this.#handlers.onBytes(wanted === 0 ? this.#takePiece() : this.#takeBytes(wanted))
    }
  }

  /** The first piece, or the beginning of it, where it lies. */
  #takePiece(): Buffer {
    const { random } = this.#host.around
    const piece = this.#buffered[0] as Buffer
    const length = random.chance(0.3) ? random.int(1, piece.length) : piece.length
    this.#drop(length)
    return piece.subarray(0, length)
  }

  /** Up to so many bytes, put together. */
  #takeBytes(wanted: number): Buffer {
    let length = 0
    for (let piece = this.#buffered[0]; piece && length < wanted; piece = this.#buffered[0]) {
      const count = piece.copy(read, length, 0, wanted - length)
      this.#drop(count)
      length += count
    }
    return read.subarray(0, length)
  }

  /** Takes bytes off the first piece. */
  #drop(count: number): void {
    const piece = this.#buffered[0] as Buffer
    this.#bufferedBytes -= count
    if (count === piece.length) this.#buffered.shift()
    else this.#buffered[0] = piece.subarray(count)
  }
}
