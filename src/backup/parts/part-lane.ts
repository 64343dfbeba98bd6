/**
 * A lane writes parts one after the other; several lanes work side by side, so that more than one core compresses
 * although the server sends its files one by one. What is appended is copied into chunks of the common pool.
 */
import type { WriteCodec } from '../../compression/codec.ts'
import { partFileName } from '../../walg/backup/backup-names.ts'
import type { StoredObject } from '../../walg/stored/object-sum.ts'
import { ObjectWriter } from '../../walg/stored/object-upload.ts'
import type { Storage } from '../../storage/storage.ts'
import type { ChunkPool } from './chunk-pool.ts'
import { tarTrailer } from './tar-header.ts'

/** What all lanes of a backup have in common. */
export interface LaneSettings {
  readonly storage: Storage
  readonly codec: WriteCodec
  readonly pool: ChunkPool
  /** Beginning of the keys, up to the backup's name and a slash. */
  readonly folder: string
  /** A part ends before the file with which its tar would become longer than this, in bytes. */
  readonly partBytesMax: number
  /** The number of the next part. */
  readonly nextNumber: () => number
  /** Called with the first failure, so that the other lanes end too. */
  readonly onFailure: (error: Error) => void
  readonly signal: AbortSignal
}

/** A part that is durable. */
export interface FinishedPart extends StoredObject {
  /** Its name within tar_partitions. */
  readonly fileName: string
  /** Names of its regular files. */
  readonly files: readonly string[]
  /** Bytes of its tar. */
  readonly tarBytes: number
}

/** What a lane does, in order. */
type Job =
  | { readonly kind: 'bytes'; readonly chunk: Buffer; readonly length: number; readonly partBytesMax: number }
  | { readonly kind: 'end'; readonly files: readonly string[]; readonly tarBytes: number }

/** See the file's header. */
export class PartLane {
  readonly #settings: LaneSettings
  readonly #jobs: Job[] = []
  readonly #finished: FinishedPart[] = []
  #wake: () => void = () => {}
  #worker: Promise<void>
  #closed = false
  #failure: Error | undefined
  #chunk: Buffer | undefined
  #filled = 0
  #files: string[] = []
  #tarBytes = 0
  /** The most that the present part comes to. */
  #partBytesMax = 0
  #queuedBytes = 0

  constructor(settings: LaneSettings) {
    this.#settings = settings
    this.#worker = this.#work()
    this.#worker.catch(() => {})
  }

  /** Bytes that wait for the encoder. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  /**
   * Begins an entry: ends the present part first when it would become too long.
   * @param name the entry's name; undefined for a directory, which no list of files has
   * @param bytes of the whole entry: header, body and padding
   */
  begin(name: string | undefined, bytes: number): void | Promise<void> {
    const isFull = this.#tarBytes > 0 && this.#tarBytes + bytes + tarTrailer.length > this.#settings.partBytesMax
    if (isFull) return this.#endPart().then(() => this.begin(name, bytes))
    this.#partBytesMax = Math.max(this.#settings.partBytesMax, bytes + tarTrailer.length)
    if (name !== undefined) this.#files.push(name)
  }

  /**
   * Appends bytes of the tar; they are copied. Resolves at once while the pool has room.
   * @throws what the storage threw
   */
  append(bytes: Uint8Array): void | Promise<void> {
    if (this.#failure) throw this.#failure
    this.#tarBytes += bytes.length
    const left = this.#copy(bytes)
    if (left.length > 0) return this.#appendLater(left)
  }

  /** Ends the last part. Resolves with all parts of the lane, durable. */
  async finish(): Promise<readonly FinishedPart[]> {
    if (this.#tarBytes > 0) await this.#endPart()
    this.#closed = true
    this.#wake()
    await this.#worker
    return this.#finished
  }

  /** Drops what is under way. */
  async drop(error: Error): Promise<void> {
    this.#failure ??= error
    this.#closed = true
    this.#wake()
    await this.#worker.catch(() => {})
  }

  async #appendLater(bytes: Uint8Array): Promise<void> {
    let left = bytes
    while (left.length > 0) {
      this.#chunk = await this.#settings.pool.taken()
      this.#filled = 0
      if (this.#failure) throw this.#failure
      left = this.#copy(left)
    }
  }

  /** Copies what there is room for; returns the rest. */
  #copy(bytes: Uint8Array): Uint8Array {
    const { pool } = this.#settings
    let left = bytes
    while (left.length > 0) {
      if (!this.#chunk) {
        this.#chunk = pool.take()
        this.#filled = 0
        if (!this.#chunk) return left
      }
      const length = Math.min(left.length, this.#chunk.length - this.#filled)
      this.#chunk.set(left.subarray(0, length), this.#filled)
      this.#filled += length
      left = left.subarray(length)
      if (this.#filled === this.#chunk.length) this.#flush()
    }
    return left
  }

  #flush(): void {
    if (!this.#chunk) return
    this.#queuedBytes += this.#filled
    this.#push({ kind: 'bytes', chunk: this.#chunk, length: this.#filled, partBytesMax: this.#partBytesMax })
    this.#chunk = undefined
  }

  async #endPart(): Promise<void> {
    await this.append(tarTrailer)
    this.#flush()
    this.#push({ kind: 'end', files: this.#files, tarBytes: this.#tarBytes })
    this.#files = []
    this.#tarBytes = 0
  }

  #push(job: Job): void {
    this.#jobs.push(job)
    this.#wake()
  }

  /** Runs the jobs in order until the lane is closed and none is left. */
  async #work(): Promise<void> {
    let writer: ObjectWriter | undefined
    let fileName = ''
    try {
      for (;;) {
        if (this.#failure) throw this.#failure
        const job = this.#jobs.shift()
        if (!job) {
          if (this.#closed) return
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
        } else if (job.kind === 'bytes') {
          if (!writer) {
            fileName = partFileName(this.#settings.nextNumber(), this.#settings.codec.extension)
            writer = this.#open(fileName, job.partBytesMax)
          }
          await this.#write(writer, job)
        } else {
          const stored = await writer?.finish()
          writer = undefined
          if (stored) this.#finished.push({ ...stored, fileName, files: job.files, tarBytes: job.tarBytes })
        }
      }
    } catch (error) {
      this.#failure ??= error as Error
      await writer?.drop(this.#failure)
      this.#giveBack()
      this.#settings.onFailure(this.#failure)
      throw this.#failure
    }
  }

  #open(fileName: string, sizeMaxBytes: number): ObjectWriter {
    const { codec, folder, signal, storage } = this.#settings
    return new ObjectWriter(storage, codec, folder, `tar_partitions/${fileName}`, signal, sizeMaxBytes)
  }

  async #write(writer: ObjectWriter, { chunk, length }: Extract<Job, { kind: 'bytes' }>): Promise<void> {
    this.#queuedBytes -= length
    await writer.write(chunk.subarray(0, length), () => this.#settings.pool.give(chunk))
  }

  /** Who waits for a chunk hears of the failure by getting one. */
  #giveBack(): void {
    for (const job of this.#jobs.splice(0)) if (job.kind === 'bytes') this.#settings.pool.give(job.chunk)
    if (this.#chunk) this.#settings.pool.give(this.#chunk)
    this.#chunk = undefined
  }
}
