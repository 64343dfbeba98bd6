/** The thread of a lane: what a {@link threadLane} starts. It has no keys, no storage and no settings. */
import module from 'node:module'
import { parentPort, workerData } from 'node:worker_threads'
import { BackgroundSync } from './background-sync.ts'
import { type FromLane, type LaneData, receivedError, sentError, type ToLane } from './lane-messages.ts'
import type {
  EntryHead,
  EntryPlace,
  EntryPlan,
  EntryResult,
  FileOpener,
  PartSource,
  PlanSource,
} from './part-reading.ts'
import { changeFile, makeFile, nowhereFile } from './restored-file.ts'

const port = parentPort
const { cacheDirectory, fsync } = workerData as LaneData
if (cacheDirectory !== undefined) module.enableCompileCache(cacheDirectory)
/** Loaded after the compile cache is there, and before there is a part. */
const partReading = import('./part-reading.ts')
const syncs = fsync ? new BackgroundSync() : undefined

function send(message: FromLane, transfer: readonly ArrayBuffer[] = []): void {
  port?.postMessage(message, transfer)
}

const files: FileOpener = {
  file: ({ full, mode = 0 }: EntryPlace) =>
    Promise.resolve(full === undefined ? nowhereFile : makeFile(full, mode, syncs)),
  change: ({ full }: EntryPlace) => Promise.resolve(full === undefined ? nowhereFile : changeFile(full, syncs)),
}

/** Asks the restore, which hears of the end of entries together with the question for the next ones. */
class AskingHost implements PlanSource {
  before: EntryResult[] = []
  #answer: PromiseWithResolvers<readonly EntryPlan[]> | undefined

  plans(entries: readonly EntryHead[]): Promise<readonly EntryPlan[]> {
    this.#answer = Promise.withResolvers()
    send({ kind: 'entries', entries, before: this.before })
    this.before = []
    return this.#answer.promise
  }

  done(result: EntryResult): Promise<void> {
    this.before.push(result)
    return Promise.resolve()
  }

  onPlans(plans: readonly EntryPlan[]): void {
    this.#answer?.resolve(plans)
  }

  onRefusal(error: Error): void {
    this.#answer?.reject(error)
  }
}

/** The bytes that the restore sends. */
class SentBytes implements AsyncIterator<Uint8Array> {
  readonly #chunks: Uint8Array[] = []
  #isEnded = false
  #failure: Error | undefined
  #wake = () => {}

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const value = this.#chunks.shift()
      if (value) return { done: false, value }
      if (this.#failure) throw this.#failure
      if (this.#isEnded) return { done: true, value: undefined }
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
  }

  add(chunk: Uint8Array): void {
    this.#chunks.push(chunk)
    this.#wake()
  }

  end(failure?: Error): void {
    this.#isEnded = true
    this.#failure = failure
    this.#wake()
  }
}

/** Memory that the restore waits for. */
const buffers = new Set<ArrayBufferLike>()

/** Gives memory back; a chunk may have become a copy on its way. */
function release({ buffer }: Uint8Array): void {
  if (buffers.delete(buffer)) send({ kind: 'used', buffer: buffer as ArrayBuffer }, [buffer as ArrayBuffer])
}

/** The part that is being read. */
let part: { readonly host: AskingHost; readonly bytes: SentBytes } | undefined

async function read(source: PartSource, host: AskingHost): Promise<void> {
  try {
    const { readPart } = await partReading
    const sum = await readPart(source, host, files)
    send({ kind: 'read', sum, before: host.before })
  } catch (error) {
    send({ kind: 'not read', error: sentError(error) })
  } finally {
    // Who decrypts zeroes it, too; but there may have been nothing to decrypt.
    source.handing.opens?.fill(0)
  }
}

async function end(): Promise<void> {
  try {
    await syncs?.done()
    send({ kind: 'ended' })
  } catch (error) {
    send({ kind: 'not ended', error: sentError(error) })
  }
}

function onMessage(message: ToLane): void {
  switch (message.kind) {
    case 'part': {
      const host = new AskingHost()
      const bytes = new SentBytes()
      part = { host, bytes }
      const source = { handing: message.handing, bytes: { [Symbol.asyncIterator]: () => bytes }, release }
      void read(source, host)
      return
    }
    case 'bytes':
      buffers.add(message.buffer)
      return part?.bytes.add(Buffer.from(message.buffer, 0, message.length))
    case 'end of bytes':
      return part?.bytes.end()
    case 'no more bytes':
      return part?.bytes.end(receivedError(message.error))
    case 'plans':
      return part?.host.onPlans(message.plans)
    case 'no plan':
      return part?.host.onRefusal(receivedError(message.error))
    case 'end':
      return void end()
    default:
      message satisfies never
  }
}

port?.on('message', onMessage)
