/**
 * Whole messages over a transport, and commands of the simple query protocol: `Q` goes out, everything up to
 * ReadyForQuery comes back. Values stay raw bytes.
 */
import type { Clock } from '../../primitives/clock.ts'
import { toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { settledWithin } from '../../primitives/wait.ts'
import { tlsError } from './connect-error.ts'
import { encodeCopyData, encodeCopyDone, encodeQuery, parseDataRow, parseErrorFields, type Row } from './frames.ts'
import { type ErrorFields, serverErrorFromFields } from './server-error.ts'
import { TlsError, type Transport } from './transport.ts'

/** One message of the server's. */
export interface Message {
  /** Type byte as a character. */
  readonly type: string
  /** Without type and length. Valid as long as nobody changes it: never a part of a read buffer. */
  readonly body: Buffer
  /** The message with type and length. */
  readonly whole: Buffer
}

/** Commands answer with small messages: a longer one means that we lost the framing. */
const messageBytesMax = 16 * 1024 * 1024
const headerBytes = 5

/** Options of {@link Wire}. */
export interface WireOptions {
  /** How the connection is named in messages. */
  readonly host: string
  readonly clock: Clock
  /** A command that takes longer means a dead connection. */
  readonly commandTimeoutMs: number
}

/** `X`: Terminate. */
const terminate = Buffer.from([0x58, 0, 0, 0, 4])

/** How long a server may take to close a connection that said goodbye. */
const closeTimeoutMs = 1000

/** A command that waits for its answer. */
interface RunningQuery {
  readonly name: string
  readonly rows: Row[]
  fields: ErrorFields | undefined
  readonly settled: PromiseWithResolvers<Row[]>
  /** Called when the server asks for data; undefined where none is meant to be sent. */
  readonly onCopyIn: (() => void) | undefined
}

/** A connection on which messages come one at a time. */
export class Wire {
  readonly host: string
  readonly transport: Transport
  /** What the server reported of its settings (ParameterStatus), kept up to date. */
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

  /** Set once the connection is of no more use. */
  get failure(): WalrxError | undefined {
    return this.#failure
  }

  /**
   * Sends every message to `onMessage` instead of to commands, until {@link endLogin}: the login speaks first.
   * @param onEnd called once if the connection breaks meanwhile
   */
  beginLogin(onMessage: (message: Message) => void, onEnd: (error: WalrxError) => void): void {
    this.#onMessage = onMessage
    this.#onEnd = onEnd
  }

  /** The login is done: from the next message on, in the same read even, commands are served. */
  endLogin(): void {
    this.#onMessage = undefined
    this.#onEnd = undefined
  }

  /**
   * Runs one command; one at a time.
   * @param name the command's first word, for messages and for what its errors mean
   * @param timeoutMs for a command that may rightly take longer than others
   * @returns its rows
   * @throws ServerError for an ErrorResponse, WALRX_CONNECTION_LOST, WALRX_PROTOCOL
   */
  async query(text: string, name: string, timeoutMs?: number): Promise<Row[]> {
    const answer = this.#send(text, name, undefined)
    return this.#inTime(answer, name, timeoutMs)
  }

  /**
   * Runs one command that wants data (CopyInResponse), and sends it no faster than the server takes it.
   * @param pieces what is sent; not read any further once the server has answered with an error
   * @throws as {@link query} does; what `pieces` throws, and the connection is of no more use then
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

  /** Sends a command; the promise is that of its answer. */
  #send(text: string, name: string, onCopyIn: (() => void) | undefined): Promise<Row[]> {
    if (this.#failure) return Promise.reject(this.#failure)
    if (this.#query) {
      const message = `${name} was sent to ${this.host} while ${this.#query.name} runs`
      return Promise.reject(new WalrxError('WALRX_INTERNAL', message))
    }
    const settled = Promise.withResolvers<Row[]>()
    this.#query = { name, rows: [], fields: undefined, settled, onCopyIn }
    this.transport.write(encodeQuery(text))
    return settled.promise
  }

  /** Waits for a step of a command; one that takes too long means a dead connection. */
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

  /** Says goodbye and closes; a server that does not close in time is left. Harmless twice. */
  async close(): Promise<void> {
    this.fail(new WalrxError('WALRX_INTERNAL', `the connection to ${this.host} was closed by us`))
    this.transport.end(terminate)
    if (await settledWithin(this.transport.closed, closeTimeoutMs, this.#options.clock)) return
    this.transport.destroy()
    await this.transport.closed
  }

  /**
   * Gives the transport away: the next receiver gets every byte that no command has taken.
   * @returns bytes that arrived unasked, to be read before anything else; nearly always none
   * @throws what broke the connection, or WALRX_INTERNAL while a command runs
   */
  release(): Buffer {
    if (this.#failure) throw this.#failure
    if (this.#query || this.#onMessage) {
      throw new WalrxError('WALRX_INTERNAL', `the connection to ${this.host} was taken over while it is not idle`)
    }
    const rest = this.#rest
    this.#rest = Buffer.alloc(0)
    this.fail(new WalrxError('WALRX_INTERNAL', `the connection to ${this.host} was given away`))
    return rest
  }

  /** Makes the connection answer nothing any more; a command that runs fails with `error`. */
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
    // Not the socket's: with TLS 1.3 a server tells only now that it does not accept our certificate.
    if (error && this.transport.encrypted && (error as NodeJS.ErrnoException).syscall === undefined) {
      return this.fail(tlsError(new TlsError(error.message, false, error), this.host))
    }
    const why = error ? `: ${error.message}` : ' by the server'
    this.fail(
      new WalrxError('WALRX_CONNECTION_LOST', `the connection to ${this.host} was closed${why}`, { cause: error }),
    )
  }

  #onBytes(chunk: Uint8Array): void {
    // The read buffer is used again: what is kept must be a copy.
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
        // A body that is shorter than its own fields say.
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
        // Nobody asked: the server ends the connection, and says why.
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
