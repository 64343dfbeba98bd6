/** Prints objects and folders as WAL-G's st ls does, or as an array of JSON, one after the other. */
import { once } from 'node:events'
import type { ListedEntry } from '../../objects/object-listing.ts'
import { formatJson } from '../../primitives/json/json.ts'

/** Widths of type and size: nobody knows the longest before the end. */
const typeWidth = 4
const sizeWidth = 13

/** Go's zero time, which WAL-G prints for folders. */
const noTime = '0001-01-01 00:00:00 +0000 UTC'

/** Text that is collected before it is written. */
const bufferMax = 16_384

/** See the file's header. Without {@link end} the array stays open: a listing that failed is no JSON. */
export class EntryPrinter {
  readonly #stream: NodeJS.WritableStream
  readonly #json: boolean
  #text: string
  #isFirst = true

  constructor(stream: NodeJS.WritableStream, json: boolean) {
    this.#stream = stream
    this.#json = json
    this.#text = json
      ? '['
      : `${'type'.padEnd(typeWidth)} ${'size'.padEnd(sizeWidth)} last modified                 name\n`
  }

  /** Prints one; resolves when the stream takes more. */
  async print(entry: ListedEntry): Promise<void> {
    this.#text += this.#json ? `${this.#isFirst ? '\n' : ',\n'}${jsonOf(entry)}` : lineOf(entry)
    this.#isFirst = false
    if (this.#text.length >= bufferMax) await this.#flush()
  }

  /** Prints what is left. */
  async end(): Promise<void> {
    if (this.#json) this.#text += this.#isFirst ? ']\n' : '\n]\n'
    await this.#flush()
  }

  async #flush(): Promise<void> {
    const text = this.#text
    this.#text = ''
    if (!this.#stream.write(text)) await once(this.#stream, 'drain')
  }
}

function lineOf(entry: ListedEntry): string {
  const size = String(entry.type === 'obj' ? entry.info.size : 0).padEnd(sizeWidth)
  const time = entry.type === 'obj' ? goTime(entry.info.lastModifiedMs) : noTime
  return `${entry.type.padEnd(typeWidth)} ${size} ${time} ${visible(entry.name)}\n`
}

/** A name may have any character: one that moves the cursor is shown as `?`, as ls does. --json has it. */
function visible(name: string): string {
  return name.replace(/\p{Cc}/gu, '?')
}

/** `2026-03-01 12:00:00.5 +0000 UTC`, as Go prints a time. */
function goTime(ms: number): string {
  const [date = '', time = ''] = new Date(ms).toISOString().split('T')
  return `${date} ${time.replace(/\.?0*Z$/, '')} +0000 UTC`
}

function jsonOf(entry: ListedEntry): string {
  if (entry.type === 'dir') return formatJson({ type: 'dir', name: entry.name })
  const { lastModifiedMs, size } = entry.info
  return formatJson({ type: 'obj', size, last_modified: new Date(lastModifiedMs).toISOString(), name: entry.name })
}
