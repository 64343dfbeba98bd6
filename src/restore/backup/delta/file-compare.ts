/** Compares files with what a manifest lists, on several threads: reading and checksums keep a core busy each. */
import { Worker } from 'node:worker_threads'
import type { Logger } from '../../../observe/log.ts'
import { WalrxError } from '../../../primitives/errors.ts'

/** A file that may be the one that is listed. */
export interface AskedFile {
  /** Relative to the data directory. */
  readonly path: string
  readonly full: string
  readonly size: number
  readonly algorithm: string
  readonly checksum: string
}

/** What became of it. */
export interface Verdict {
  readonly path: string
  /** True where it was read to its end, and has the size and the checksum. */
  readonly isSame: boolean
  /** Why it could not be read. */
  readonly problem?: string
}

/** To a thread: the next files. */
export interface ToComparer {
  readonly files: readonly AskedFile[]
  /** Those that are the same have to be durable. */
  readonly isSynced: boolean
}

/** From a thread. `bytes` were read since the last message. */
export type FromComparer =
  | { readonly kind: 'read'; readonly bytes: number }
  | { readonly kind: 'compared'; readonly bytes: number; readonly verdicts: readonly Verdict[] }

/** Options of {@link compareFiles}. */
export interface CompareOptions {
  /** Threads at most. */
  readonly concurrency: number
  /** True to make those that are the same durable. */
  readonly isSynced: boolean
  readonly log: Logger
  readonly signal: AbortSignal
  /** Called with the total of bytes that were read. */
  readonly onProgress: (readBytes: number) => void
}

/** A thread gets so many files at once, or fewer with so many bytes. */
const batchFiles = 100
const batchBytes = 16 * 1024 * 1024

/**
 * Reads all files.
 * @returns the paths of those that are the same; one that cannot be read is not, with a warning
 * @throws WALRX_INTERNAL for a thread that ends, the signal's reason
 */
export async function compareFiles(files: readonly AskedFile[], options: CompareOptions): Promise<Set<string>> {
  const { concurrency, isSynced, log, onProgress, signal } = options
  signal.throwIfAborted()
  const queue = batchesOf(files)
  const same = new Set<string>()
  let read = 0
  const onBytes = (bytes: number) => {
    read += bytes
    onProgress(read)
  }
  const workers = Array.from({ length: Math.min(concurrency, queue.length) }, () => new Comparer(onBytes))
  const onAbort = () => workers.forEach((worker) => worker.fail(signal.reason))
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    await Promise.all(
      workers.map(async (worker) => {
        for (let batch = queue.pop(); batch; batch = queue.pop()) {
          for (const { isSame, path, problem } of await worker.compare({ files: batch, isSynced })) {
            if (isSame) same.add(path)
            if (problem !== undefined) log.warn('a file cannot be read, and is restored', { file: path, problem })
          }
        }
      }),
    )
    return same
  } finally {
    signal.removeEventListener('abort', onAbort)
    await Promise.all(workers.map((worker) => worker.end()))
  }
}

/** The smallest first: they are taken from the end, so that no large one is left when the others are read. */
function batchesOf(files: readonly AskedFile[]): AskedFile[][] {
  const batches: AskedFile[][] = []
  let bytes = 0
  for (const file of files.toSorted((one, other) => one.size - other.size)) {
    const last = batches.at(-1)
    if (!last || last.length >= batchFiles || bytes + file.size > batchBytes) {
      batches.push([file])
      bytes = file.size
    } else {
      last.push(file)
      bytes += file.size
    }
  }
  return batches
}

/** One thread. */
class Comparer {
  readonly #worker: Worker
  readonly #onBytes: (bytes: number) => void
  #asked: PromiseWithResolvers<readonly Verdict[]> | undefined
  #failure: { readonly error: unknown } | undefined

  constructor(onBytes: (bytes: number) => void) {
    this.#onBytes = onBytes
    // The file lies beside this one, compiled or not.
    const file = new URL(import.meta.url.replace(/file-compare(\.[jt]s)(\?.*)?$/, 'compare-thread$1'))
    // It needs none of the settings, among which there may be keys.
    this.#worker = new Worker(file, { env: {} })
    this.#worker.on('message', (message: FromComparer) => this.#onMessage(message))
    this.#worker.on('error', (error) => this.fail(error))
    this.#worker.on('exit', (status) => {
      this.fail(new WalrxError('WALRX_INTERNAL', `a thread of the comparison has ended with status ${status}`))
    })
  }

  async compare(task: ToComparer): Promise<readonly Verdict[]> {
    if (this.#failure) throw this.#failure.error
    this.#asked = Promise.withResolvers()
    this.#worker.postMessage(task)
    return this.#asked.promise
  }

  #onMessage(message: FromComparer): void {
    this.#onBytes(message.bytes)
    if (message.kind === 'compared') this.#asked?.resolve(message.verdicts)
  }

  /** Nothing more comes from it. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#asked?.reject(error)
  }

  async end(): Promise<void> {
    await this.#worker.terminate()
  }
}
