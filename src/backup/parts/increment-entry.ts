/**
 * An `INCREMENTAL.*` member of the server's archive on its way into a part, as WAL-G's increment under the name of the
 * file. Its entry is placed when the head of the server's has come: only then is known how long it becomes.
 */
import { crc32c } from '@node-rs/crc32'
import { WalrxError } from '../../primitives/errors.ts'
import { IncrementConverter } from '../../walg/increment/increment-converter.ts'
import { formatHeader, paddingOf, type ServerTarEntry } from './tar-header.ts'
import type { EntryPlacer, EntryTarget } from './entry-target.ts'

/** Size and checksum of a member as the server sent it, to be held against its manifest. */
export interface ReceivedIncrement {
  readonly size: number
  readonly crc32c: number
}

/** What an {@link IncrementEntry} is made of. */
export interface IncrementEntryParts {
  readonly placer: EntryPlacer
  /** The name of its entry in the part. */
  readonly name: string
  /** Its header in the server's archive. */
  readonly header: ServerTarEntry
  /** Called when it has come whole. */
  readonly onWhole: (received: ReceivedIncrement) => void
}

/** See the file's header. */
export class IncrementEntry implements EntryTarget {
  readonly #parts: IncrementEntryParts
  readonly #converter: IncrementConverter
  #target: EntryTarget | undefined
  #padding = 0
  #left: number
  #sum = 0

  constructor(parts: IncrementEntryParts) {
    this.#parts = parts
    const { header, name } = parts
    this.#left = header.size
    this.#converter = new IncrementConverter({
      size: header.size,
      refuse: (what) => new WalrxError('WALRX_PROTOCOL', `the server sent a damaged increment of ${name}: ${what}`),
      target: { begin: (size) => this.#begin(size), append: (bytes) => this.#target?.append(bytes) },
    })
    // None is that short, and nothing would come of it.
    if (header.size === 0) this.#converter.end()
  }

  /** Bytes of the server's body; those after it are the padding of its archive. */
  append(bytes: Uint8Array): void | Promise<void> {
    const own = bytes.subarray(0, this.#left)
    if (own.length === 0) return
    this.#left -= own.length
    this.#sum = crc32c(own instanceof Buffer ? own : Buffer.from(own.buffer, own.byteOffset, own.length), this.#sum)
    const busy = this.#converter.append(own)
    if (this.#left > 0) return busy
    return busy ? busy.then(() => this.#end()) : this.#end()
  }

  #begin(size: number): void | Promise<void> {
    const { header, name, placer } = this.#parts
    this.#padding = paddingOf(size)
    const { mode, mtime } = header
    const block = formatHeader({ name, kind: 'file', size, mode, mtime })
    const placed = placer.place(name, block.length + size + this.#padding)
    const begin = (target: EntryTarget) => {
      this.#target = target
      return target.append(block)
    }
    return placed instanceof Promise ? placed.then(begin) : begin(placed)
  }

  #end(): void | Promise<void> {
    this.#converter.end()
    this.#parts.onWhole({ size: this.#parts.header.size, crc32c: this.#sum })
    if (this.#padding > 0) return this.#target?.append(Buffer.alloc(this.#padding))
  }
}
