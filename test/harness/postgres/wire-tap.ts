/**
 * A TCP proxy between walrx and PostgreSQL that reads along: it decodes every standby status update that walrx sends,
 * the moment it arrives and before the server gets it, and cuts connections on demand, also in the middle of a
 * message.
 */
import { createServer, connect, type AddressInfo, type Socket } from 'node:net'
import { type Lsn, toLsn } from '../../../src/postgres/lsn.ts'

/** What one status update said. */
export interface TappedStatus {
  readonly write: Lsn
  readonly flush: Lsn
  readonly apply: Lsn
}

/** See the file's header. */
export class WireTap implements AsyncDisposable {
  /** Every status with a flush position, oldest first. */
  readonly flushes: TappedStatus[] = []
  /** Called with each status before the server gets it; what it throws is kept in {@link failures}. */
  onStatus: (status: TappedStatus) => void = () => {}
  readonly failures: unknown[] = []
  /** Status updates in all. */
  statusCount = 0
  readonly #server
  readonly #pairs = new Set<readonly [Socket, Socket]>()
  readonly #frozen = new Set<readonly [Socket, Socket]>()
  #target: { host: string; port: number }
  /** The next connection is cut after this many bytes from the server. */
  #cutAfterBytes: number | undefined

  private constructor(target: { host: string; port: number }) {
    this.#target = target
    this.#server = createServer((client) => this.#onConnection(client))
  }

  /** Listens on a free loopback port. */
  static async open(target: { host: string; port: number }): Promise<WireTap> {
    const tap = new WireTap(target)
    await new Promise<void>((resolve) => tap.#server.listen(0, '127.0.0.1', resolve))
    return tap
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Sends new connections elsewhere: a failover. */
  redirect(target: { host: string; port: number }): void {
    this.#target = target
  }

  /** Resolves when a flush position of at least `lsn` went by; rejects when one failed the check of onStatus. */
  async flushed(lsn: Lsn): Promise<void> {
    while (!this.flushes.some(({ flush }) => flush >= lsn)) {
      if (this.failures.length > 0) throw this.failures[0] as Error
      await new Promise<void>((resolve) => this.#watchers.add(resolve))
    }
  }
  readonly #watchers = new Set<() => void>()

  /** Cuts all connections now. */
  cut(): void {
    for (const [client, server] of this.#pairs) {
      client.resetAndDestroy()
      server.resetAndDestroy()
    }
  }

  /** Passes nothing more on over the present connections, their ends included, as if a machine on the way were gone. */
  freeze(): void {
    for (const pair of this.#pairs) this.#frozen.add(pair)
  }

  /** Cuts the present or next connection once this many more bytes came from the server: in the middle of anything. */
  cutAfter(bytes: number): void {
    this.#cutAfterBytes = bytes
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#frozen.clear()
    this.cut()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  #onConnection(client: Socket): void {
    const server = connect(this.#target)
    const pair = [client, server] as const
    this.#pairs.add(pair)
    const end = () => {
      if (this.#frozen.has(pair)) return
      this.#pairs.delete(pair)
      client.destroy()
      server.destroy()
    }
    for (const socket of pair) socket.on('error', end).on('close', end).setNoDelay(true)
    const decode = this.#statusDecoder()
    client.on('data', (chunk) => {
      if (this.#frozen.has(pair)) return
      decode(chunk)
      // By what read along just now.
      if (this.#frozen.has(pair)) return
      if (!server.write(chunk)) client.pause()
    })
    server.on('drain', () => client.resume())
    server.on('data', (chunk) => {
      if (this.#frozen.has(pair)) return
      const cutAt = this.#cutAfterBytes
      if (cutAt !== undefined && chunk.length >= cutAt) {
        this.#cutAfterBytes = undefined
        client.write(chunk.subarray(0, cutAt), () => client.resetAndDestroy())
        server.destroy()
        return
      }
      if (cutAt !== undefined) this.#cutAfterBytes = cutAt - chunk.length
      if (!client.write(chunk)) server.pause()
    })
    client.on('drain', () => server.resume())
  }

  /** Frames of the client: the start-up packet has no type byte, everything after it has one. */
  #statusDecoder(): (chunk: Buffer) => void {
    let pending = Buffer.alloc(0)
    let isStarted = false
    return (chunk) => {
      pending = Buffer.concat([pending, chunk])
      for (;;) {
        const head = isStarted ? 1 : 0
        if (pending.length < head + 4) return
        const length = pending.readUInt32BE(head)
        if (pending.length < head + length) return
        const message = pending.subarray(0, head + length)
        pending = pending.subarray(head + length)
        if (!isStarted) isStarted = message.readUInt32BE(4) === 196_608
        else if (message[0] === 0x64 && message[5] === 0x72) this.#onUpdate(message.subarray(6))
      }
    }
  }

  #onUpdate(body: Buffer): void {
    const [write, flush, apply] = [0, 8, 16].map((at) => toLsn(body.readBigUInt64BE(at))) as [Lsn, Lsn, Lsn]
    this.statusCount++
    const status = { write, flush, apply }
    if (flush !== 0n) this.flushes.push(status)
    try {
      this.onStatus(status)
    } catch (error) {
      this.failures.push(error)
    }
    for (const wake of this.#watchers) wake()
    this.#watchers.clear()
  }
}
