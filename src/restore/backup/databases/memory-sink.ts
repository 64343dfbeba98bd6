/** The destination of a restore of a few small files: memory. */
import { WalrxError } from '../../../primitives/errors.ts'
import type { ChangedFile, RestoredFile } from '../parts/restored-file.ts'
import type { RestoreSink } from '../restore-sink.ts'

/** See the file's header. */
export class MemorySink implements RestoreSink {
  readonly #files = new Map<string, Buffer>()
  readonly #bytesMax: number

  /** @param bytesMax the most bytes of a file */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax
  }

  /** What was restored under a path. */
  content(path: string): Buffer | undefined {
    return this.#files.get(path)
  }

  directory(): Promise<void> {
    return Promise.resolve()
  }

  file(path: string): Promise<RestoredFile> {
    this.#files.set(path, Buffer.alloc(0))
    const append = async (bytes: Uint8Array) => this.#write(path, this.content(path)?.length ?? 0, bytes)
    return Promise.resolve({ write: append, finish: async () => {}, drop: async () => {} })
  }

  change(path: string): Promise<ChangedFile> {
    return Promise.resolve({
      resize: async (bytes: number) => void this.#resize(path, bytes),
      write: async (position: number, bytes: Uint8Array) => this.#write(path, position, bytes),
      finish: async () => {},
      drop: async () => {},
    })
  }

  async sync(): Promise<void> {}

  #write(path: string, position: number, bytes: Uint8Array): void {
    const before = this.content(path)?.length ?? 0
    this.#resize(path, Math.max(before, position + bytes.length)).set(bytes, position)
  }

  #resize(path: string, bytes: number): Buffer {
    if (bytes > this.#bytesMax) {
      throw new WalrxError('WALRX_BACKUP_UNSUPPORTED', `${path} has more than ${this.#bytesMax} bytes`)
    }
    const now = Buffer.alloc(bytes)
    this.#files.get(path)?.copy(now)
    this.#files.set(path, now)
    return now
  }
}
