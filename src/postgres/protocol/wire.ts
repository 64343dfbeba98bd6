/**
 * Messages over a transport, and commands of the simple query protocol: it sends `Q`, and reads everything up to
 * ReadyForQuery. Values stay raw bytes.
 */
import type { Clock } from '../../primitives/clock.ts'
import { toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { settledWithin } from '../../primitives/wait.ts'
import { tlsError } from './connect-error.ts'
import { encodeCopyData, encodeCopyDone, encodeQuery, parseDataRow, parseErrorFields, type Row } from './frames.ts'
import { type ErrorFields, serverErrorFromFields } from './server-error.ts'
import { TlsError, type Transport } from './transport.ts'

/** One message of the server. */
export interface Message {
  /** Type byte as a character. */
  readonly type: string
  /** Without type and length. It stays valid: it is never part of a read buffer. */
  readonly body: Buffer
  /** The message with type and length. */
  readonly whole: Buffer
}

/** The answers to commands are small messages: a longer one means that the framing is wrong. */
const messageBytesMax = 16 * 1024 * 1024
const headerBytes = 5

/** Options of {@link Wire}. */
export interface WireOptions {
  /** The connection's name in messages. */
  readonly host: string
  readonly clock: Clock
  /** After this time without an answer to a command the connection is dead. */
  readonly commandTimeoutMs: number
}

/** First byte of CopyData with WAL: `w`. */
const walData = 0x77

/** `X`: Terminate. */
const terminate = Buffer.from([0x58, 0, 0, 0, 4])

/** How long a server may take to close a connection after Terminate. */
const closeTimeoutMs = 1000

/** A command that waits for its answer. */
interface RunningQuery {
  readonly name: string
  readonly rows: Row[]
  fields: ErrorFields | undefined
  readonly settled: PromiseWithResolvers<Row[]>
  /** Called when the server asks for data; undefined for a command without data. */
  readonly onCopyIn: (() => void) | undefined
  /** For a command that copies both ways: whether CopyDone was sent. */
  copyBoth?: { isDone: boolean }
}

/** A connection on which messages come one at a time. */
export class Wire {
  readonly host: string
  readonly transport: Transport
  /** The settings that the server reported (ParameterStatus), kept up to date. */
  readonly parameters = new Map<string, string>()
  readonly #options: WireOptions
  #rest: Buffer = Buffer.alloc(0)
  #onMessage: ((message: Message) => void) | undefined
  #onEnd: ((error: WalrxError) => void) | undefined
  #query: RunningQuery | undefined
  #failure: WalrxError | undefined

  constructor(transport: Transport, options: WireOptions) {
    this.transport = transport
    this.host = options.host
    this.#options = options
    transport.receiveWith({ onBytes: (chunk) => this.#onBytes(chunk), onClose: (error) => this.#onClose(error) })
  }

  /** Set once the connection is unusable. */
  get failure(): WalrxError | undefined {
    return this.#failure
  }

  /**
   * Sends every message to `onMessage` instead of to commands, until {@link endLogin}: the login comes first.
   * @param onEnd called once if the connection breaks meanwhile
   */
  beginLogin(onMessage: (message: Message) => void, onEnd: (error: WalrxError) => void): void {
    this.#onMessage = onMessage
    this.#onEnd = onEnd
  }

  /** The login is done: from the next message on, even in the same read, messages belong to commands. */
  endLogin(): void {
    this.#onMessage = undefined
    this.#onEnd = undefined
  }

  /**
   * Runs one command; one at a time.
   * @param name the command's first word, for messages and for the meaning of errors
   * @param timeoutMs for a command that may take longer than others
   * @returns its rows
   * @throws ServerError for an ErrorResponse, WALRX_CONNECTION_LOST, WALRX_PROTOCOL
   */
  async query(text: string, name: string, timeoutMs?: number): Promise<Row[]> {
    const answer = this.#send(text, name, undefined)
    return this.#inTime(answer, name, timeoutMs)
  }

  /**
   * Runs one command that needs data (CopyInResponse), and sends the data no faster than the server takes it.
   * @param pieces the data; not read further once the server has answered with an error
   * @throws as {@link query} does; what `pieces` throws, which makes the connection unusable
   */
  async copyIn(text: string, name: string, pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
    const wanted = Promise.withResolvers<'wanted'>()
    const answer = this.#send(text, name, () => wanted.resolve('wanted'))
    let isAnswered = false
    const answered = answer.then(
      () => (isAnswered = true),
      () => (isAnswered = true),
    )
    if ((await this.#inTime(Promise.race([wanted.promise, answer]), name)) !== 'wanted') {
      throw new WalrxError('WALRX_PROTOCOL', `${this.host} answered ${name} without asking for data`)
    }
    try {
      for await (const piece of pieces) {
        if (isAnswered) break
        this.transport.write(encodeCopyData(piece))
        await this.#inTime(Promise.race([this.transport.drained(), answered]), name)
      }
    } catch (error) {
      this.#abandon(toWalrxError(error))
      throw error
    }
    this.transport.write(encodeCopyDone())
    await this.#inTime(answer, name)
  }

  /**
   * Runs one command that copies both ways, only to see whether it can: the copy is ended at the first data, and what is
   * under way then is dropped.
   * @param query the whole message
   * @throws as {@link query} does
   */
  async copyFirst(query: Buffer, name: string): Promise<void> {
    const answer = this.#send(query, name, undefined)
    if (this.#query) this.#query.copyBoth = { isDone: false }
    await this.#inTime(answer, name)
  }

  /** Sends a command; resolves with its answer. */
  #send(text: string | Buffer, name: string, onCopyIn: (() => void) | undefined): Promise<Row[]> {
    if (this.#failure) return Promise.reject(this.#failure)
    if (this.#query) {
      const message = `${name} was sent to ${this.host} while ${this.#query.name} runs`
      return Promise.reject(new WalrxError('WALRX_INTERNAL', message))
    }
    const settled = Promise.withResolvers<Row[]>()
    this.#query = { name, rows: [], fields: undefined, settled, onCopyIn }
    this.transport.write(typeof text === 'string' ? encodeQuery(text) : text)
    return settled.promise
  }

  /** Waits for a step of a command; after the time limit the connection is dead. */
  async #inTime<T>(step: Promise<T>, name: string, timeoutMs = this.#options.commandTimeoutMs): Promise<T> {
    const timer = this.#options.clock.setTimer(timeoutMs, () => {
      const seconds = timeoutMs / 1000
      this.#abandon(new WalrxError('WALRX_CONNECTION_LOST', `${this.host} did not answer ${name} within ${seconds} s`))
    })
    try {
      return await step
    } finally {
      timer.cancel()
    }
  }

  /** Sends Terminate and closes; does not wait for a server that does not close in time. May be called twice. */
  async close(): Promise<void> {
    this.fail(new WalrxError('WALRX_INTERNAL', `the connection to ${this.host} was closed by walrx`))
    this.transport.end(terminate)
    if (await settledWithin(this.transport.closed, closeTimeoutMs, this.#options.clock)) return
    this.transport.destroy()
    await this.transport.closed
  }

  /**
   * Hands the transport over: the next receiver gets every byte that no command has taken.
   * @returns bytes that no command asked for, to be read first; nearly always none
   * @throws the connection's error, or WALRX_INTERNAL while a command runs
   */
  release(): Buffer {
    if (this.#failure) throw this.#failure
    if (this.#query || this.#onMessage) {
      throw new WalrxError('WALRX_INTERNAL', `the connection to ${this.host} was taken over while it was not idle`)
    }
    const rest = this.#rest
    this.#rest = Buffer.alloc(0)
    this.fail(new WalrxError('WALRX_INTERNAL', `the connection to ${this.host} was handed over`))
    return rest
  }

  /** Makes the connection unusable; a running command fails with `error`. */
  fail(error: WalrxError): void {
    if (this.#failure) return
    this.#failure = error
    const query = this.#query
    this.#query = undefined
    query?.settled.reject(error)
    const onEnd = this.#onEnd
    this.endLogin()
    onEnd?.(error)
  }

  #onClose(error: Error | undefined): void {
    const query = this.#query
    if (query?.fields) return this.fail(serverErrorFromFields(query.fields, this.host, query.name))
    if (error instanceof WalrxError) return this.fail(error)
    // Not the socket's error: with TLS 1.3 a server reports only now that it does not accept the client certificate.
    if (error && this.transport.encrypted && (error as NodeJS.ErrnoException).syscall === undefined) {
      return this.fail(tlsError(new TlsError(error.message, false, error), this.host))
    }
    const why = error ? `: ${error.message}` : ' by the server'
    this.fail(
      new WalrxError('WALRX_CONNECTION_LOST', `the connection to ${this.host} was closed${why}`, { cause: error }),
    )
  }

  #onBytes(chunk: Uint8Array): void {
    // A copy, because the read buffer is reused.
    this.#rest = Buffer.concat([this.#rest, chunk])
    let at = 0
    while (!this.#failure && this.#rest.length - at >= headerBytes) {
      const length = this.#rest.readUInt32BE(at + 1)
      if (length < 4 || length > messageBytesMax) return this.#broken(`message of ${length} bytes`)
      if (this.#rest.length - at < 1 + length) break
      const whole = this.#rest.subarray(at, at + 1 + length)
      at += whole.length
      try {
        this.#dispatch({ type: String.fromCharCode(whole[0] ?? 0), body: whole.subarray(headerBytes), whole })
      } catch (error) {
        // The body ends before its fields do.
        return this.#broken(`message of type "${String.fromCharCode(whole[0] ?? 0)}"`, error)
      }
    }
    if (!this.#failure) this.#rest = this.#rest.subarray(at)
  }

  #dispatch(message: Message): void {
    if (message.type === 'S') this.#onParameter(message.body)
    if (this.#onMessage) this.#onMessage(message)
    else this.#onAnswer(message)
  }

  /** ParameterStatus: two cstrings. */
  #onParameter(body: Buffer): void {
    const [name, value] = body.toString('utf8').split('\0')
    if (name !== undefined && value !== undefined) this.parameters.set(name, value)
  }

  #onAnswer({ body, type }: Message): void {
    const query = this.#query
    switch (type) {
      case 'S': // ParameterStatus
      case 'N': // NoticeResponse
      case 'A': // NotificationResponse
        return
      case 'E':
        if (query) query.fields = parseErrorFields(body)
        // Without a command: the server ends the connection, with the reason.
        else this.#abandon(serverErrorFromFields(parseErrorFields(body), this.host, undefined))
        return
      case 'T': // RowDescription
      case 'C': // CommandComplete
        if (query) return
        break
      case 'G': // CopyInResponse
        if (!query?.onCopyIn) break
        query.onCopyIn()
        return
      case 'W': // CopyBothResponse
        if (query?.copyBoth) return
        break
      case 'c': // CopyDone
      case 'd': // CopyData
        if (!query?.copyBoth) break
        // The keepalive that a server may send first says nothing about its WAL.
        if (type === 'd' && body[0] !== walData) return
        if (!query.copyBoth.isDone) this.transport.write(encodeCopyDone())
        query.copyBoth.isDone = true
        return
      case 'D':
        if (!query) break
        query.rows.push(parseDataRow(body))
        return
      case 'Z':
        if (!query) break
        this.#query = undefined
        if (query.fields) query.settled.reject(serverErrorFromFields(query.fields, this.host, query.name))
        else query.settled.resolve(query.rows)
        return
    }
    this.#broken(`message of type "${type}"`)
  }

  #broken(what: string, cause?: unknown): void {
    this.#abandon(new WalrxError('WALRX_PROTOCOL', `${this.host} sent an unexpected ${what}`, { cause }))
  }

  #abandon(error: WalrxError): void {
    this.fail(error)
    this.transport.destroy()
  }
}
