/** Downloads one WAL file from the archive into a new local file: decoded, checked and durable. */
import { constants } from 'node:fs'
import { type FileHandle, open, unlink } from 'node:fs/promises'
import type { DecodedPiece } from '../../compression/codec.ts'
import { hasCode, toWalrxError, WalrxError } from '../../primitives/errors.ts'
import { orAborted } from '../../primitives/wait.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import type { RequiredSystem } from './segment-check.ts'
import { openWalFileCheck, type WalFileCheck } from './wal-file-check.ts'

/** Options of {@link downloadWalFile}. */
export interface DownloadOptions {
  readonly reader: Pick<WalReader, 'openWalFile' | 'location'>
  /** Name of the WAL file. */
  readonly name: string
  /** The local file, which must not exist. It is readable by its owner alone. */
  readonly path: string
  /** Extension to try first. */
  readonly extension?: string | undefined
  /** Bytes of a segment, when known. */
  readonly segmentSize?: number | undefined
  /** The system identifiers that it must have. */
  readonly systems: () => Promise<readonly RequiredSystem[]>
  readonly signal: AbortSignal
  /** Called after every write to the local file. */
  readonly onProgress?: (() => void) | undefined
  /** Called once, when the first page of a segment has passed. */
  readonly onSegment?: ((segmentSize: number) => void) | undefined
}

/** What was downloaded. */
export interface DownloadedFile {
  readonly key: string
  /** Extension of its stored form. */
  readonly extension: string
}

/**
 * Downloads a WAL file. When this fails, the local file is removed.
 * @returns undefined when the storage has answered that the archive lacks it
 * @throws WALRX_OBJECT_DAMAGED, WALRX_CODEC_UNSUPPORTED, WALRX_OTHER_CLUSTER; WALRX_USAGE for another segment size than
 * expected; WALRX_DESTINATION when the local file cannot be written, with the system's error as its cause; what the
 * storage throws; the signal's reason
 */
export async function downloadWalFile(options: DownloadOptions): Promise<DownloadedFile | undefined> {
  const { extension, name, path, reader, segmentSize, signal } = options
  const systems = options.systems()
  // Awaited below, but only if the file exists.
  systems.catch(() => {})
  const opened = await reader.openWalFile(name, extension, { signal })
  if (!opened) return undefined
  const at = `${reader.location}/${opened.key}`
  let check: WalFileCheck | undefined
  let file: LocalFile | undefined
  let isReported = false
  try {
    for await (const { bytes, free } of untilAborted(opened.pieces?.() ?? inPieces(opened.body), signal)) {
      const fileCheck = (check ??= openWalFileCheck({ name, segmentSize, systems: await systems }))
      damaged(at, () => fileCheck.write(bytes))
      if (!isReported && fileCheck.segmentSize !== undefined) options.onSegment?.(fileCheck.segmentSize)
      isReported ||= fileCheck.segmentSize !== undefined
      file ??= await LocalFile.create(path)
      await file.write(bytes)
      free()
      options.onProgress?.()
    }
    damaged(at, () => check?.finish())
    if (!file) throw new WalrxError('WALRX_OBJECT_DAMAGED', `${at} is empty`)
    await file.finish()
  } catch (error) {
    await file?.discard()
    throw error
  }
  return { key: opened.key, extension: opened.extension }
}

async function* inPieces(body: AsyncIterable<Uint8Array>): AsyncGenerator<DecodedPiece, undefined> {
  for await (const bytes of body) yield { bytes, free: () => {} }
}

/** The blocks of a body. Throws the signal's reason even when the body hangs; the body is then abandoned. */
async function* untilAborted<T>(body: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, undefined> {
  const blocks = body[Symbol.asyncIterator]()
  let isEnded = false
  try {
    for (;;) {
      const { done, value } = await orAborted(blocks.next(), signal)
      isEnded = done === true
      if (isEnded) return
      yield value as T
    }
  } finally {
    const freed = isEnded ? undefined : blocks.return?.()
    if (signal.aborted) freed?.catch(() => {})
    else await freed
  }
}

/** Reports a failed check as damage of the object `at`, unless the expectation itself was wrong. */
function damaged(at: string, check: () => void): void {
  try {
    check()
  } catch (error) {
    const { message, hint } = toWalrxError(error)
    const isOurFault = hasCode(error, 'WALRX_OTHER_CLUSTER') || hasCode(error, 'WALRX_USAGE')
    const code = isOurFault ? error.code : 'WALRX_OBJECT_DAMAGED'
    throw new WalrxError(code, `${at}: ${message}`, { cause: error, ...(hint !== undefined && { hint }) })
  }
}

/** A file that is being written. */
class LocalFile {
  readonly #path: string
  readonly #handle: FileHandle
  #closed = false

  private constructor(path: string, handle: FileHandle) {
    this.#path = path
    this.#handle = handle
  }

  static async create(path: string): Promise<LocalFile> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL
    return new LocalFile(path, await localWork(path, 'create', open(path, flags, 0o600)))
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let offset = 0; offset < chunk.length;) {
      const { bytesWritten } = await localWork(this.#path, 'write', this.#handle.write(chunk, offset))
      offset += bytesWritten
    }
  }

  /** Makes the bytes durable and closes the file. */
  async finish(): Promise<void> {
    await localWork(this.#path, 'sync', this.#handle.sync())
    this.#closed = true
    await localWork(this.#path, 'close', this.#handle.close())
  }

  async discard(): Promise<void> {
    if (!this.#closed) await this.#handle.close().catch(() => {})
    this.#closed = true
    await unlink(this.#path).catch(() => {})
  }
}

/** The result of a system call on a local file. Its error becomes WALRX_DESTINATION with the path and the verb. */
export async function localWork<T>(path: string, verb: string, work: Promise<T>): Promise<T> {
  try {
    return await work
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new WalrxError('WALRX_DESTINATION', `cannot ${verb} ${path}: ${code ?? message}`, { cause: error })
  }
}

/** True when the local file system is full, or its quota is used up. */
export function isOutOfSpace(error: unknown): boolean {
  const code = hasCode(error, 'WALRX_DESTINATION')
    ? (error.cause as NodeJS.ErrnoException | undefined)?.code
    : undefined
  return code === 'ENOSPC' || code === 'EDQUOT'
}
