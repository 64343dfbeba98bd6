/** What the login gives to pg in place of a socket. */
import { EventEmitter } from 'node:events'
import type { Transport } from '../protocol/transport.ts'

/** The fake socket for pg. */
export class LoginStream extends EventEmitter {
  readonly #transport: Transport
  #isDetached = false

  constructor(transport: Transport) {
    super()
    this.#transport = transport
  }

  get writable(): boolean {
    return !this.#isDetached
  }

  /** From here on pg has no effect. */
  detach(): void {
    this.#isDetached = true
    this.removeAllListeners()
    this.on('error', () => {})
  }

  /** Passes one message to pg. */
  receive(message: Buffer): void {
    // pg keeps no part of it, but it may hold on to the bytes until its SCRAM answer is computed.
    try {
      this.emit('data', Buffer.from(message))
    } catch (error) {
      this.emit('error', error)
    }
  }

  connect(): this {
    // The real socket is connected already.
    process.nextTick(() => this.emit('connect'))
    return this
  }

  write(bytes: Uint8Array): boolean {
    if (!this.#isDetached) this.#transport.write(Uint8Array.from(bytes))
    return true
  }

  getPeerCertificate(): unknown {
    return this.#transport.peerCertificate
  }

  setNoDelay(): this {
    return this
  }

  setKeepAlive(): this {
    return this
  }

  ref(): this {
    return this
  }

  unref(): this {
    return this
  }

  end(): this {
    return this
  }

  destroy(): this {
    return this
  }
}
