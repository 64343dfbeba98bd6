/**
 * Which other forms of a WAL file's name are there: two receivers may write to one archive with different codecs, and a
 * conditional put keeps only equal names apart. A writer that has put its own form looks for other forms afterwards. When
 * two write at the same time, at least the later one to look finds the other.
 *
 * A call that arrives during a listing waits for the next listing, which serves every call that arrived in the meantime:
 * a busy receiver pays for a fraction of a listing for each segment.
 */
import { extensions, unsupportedExtensions } from '../../compression/codecs.ts'
import { orAborted } from '../../primitives/wait.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { parseWalKey, walFolder, walKey } from '../names.ts'

/** One form of a WAL file. */
export interface WalForm {
  readonly key: string
  readonly extension: string
}

/** Names that are looked for together have so many characters in common: 256 segments of 16 MB. */
const commonLength = 22

interface Batch {
  readonly names: Set<string>
  readonly result: Promise<WalForm[]>
  readonly stop: AbortController
  /** Callers that still want to know. */
  waiting: number
}

/** See the file's header. */
export class OtherForms {
  readonly #storage: Storage
  /** By what the names begin with: the listing under way, and the one that comes next. */
  readonly #running = new Map<string, Batch>()
  readonly #next = new Map<string, Batch>()

  constructor(storage: Storage) {
    this.#storage = storage
  }

  /**
   * Every form of a name but one, as the storage has them at some moment after the call.
   * @param extension of the form that is left out
   */
  async of(name: string, extension: string, options: StorageCallOptions = {}): Promise<WalForm[]> {
    const { signal } = options
    signal?.throwIfAborted()
    const own = walKey(name, extension)
    if (this.#storage.hasCheapHeads === true) return this.#byHeads(name, own, options)
    const batch = this.#join(name)
    try {
      const forms = await orAborted(batch.result, ...(signal ? [signal] : []))
      return forms.filter(({ key }) => key !== own && parseWalKey(key)?.name === name)
    } finally {
      batch.waiting--
      if (batch.waiting === 0) batch.stop.abort()
    }
  }

  async #byHeads(name: string, own: string, options: StorageCallOptions): Promise<WalForm[]> {
    const forms: WalForm[] = []
    for (const extension of [...Object.values(extensions), ...unsupportedExtensions]) {
      const key = walKey(name, extension)
      if (key !== own && (await this.#storage.head(key, options))) forms.push({ key, extension })
    }
    return forms
  }

  #join(name: string): Batch {
    const group = name.slice(0, commonLength)
    let batch = this.#next.get(group)
    if (!batch || batch.stop.signal.aborted) {
      const names = new Set<string>()
      const stop = new AbortController()
      const before = this.#running.get(group)?.result.catch(() => {}) ?? Promise.resolve()
      const result = before.then(() => this.#list(group, names, stop.signal))
      // Every waiting caller gets the error; there may be none.
      result.catch(() => {})
      batch = { names, result, stop, waiting: 0 }
      this.#next.set(group, batch)
    }
    batch.names.add(name)
    batch.waiting++
    return batch
  }

  async #list(group: string, names: ReadonlySet<string>, signal: AbortSignal): Promise<WalForm[]> {
    const batch = this.#next.get(group)
    if (batch?.names === names) {
      this.#next.delete(group)
      this.#running.set(group, batch)
    }
    try {
      const forms: WalForm[] = []
      for await (const { key } of this.#storage.list(walFolder + commonPrefix([...names]), { signal })) {
        const parsed = parseWalKey(key)
        if (parsed && names.has(parsed.name)) forms.push({ key, extension: parsed.extension })
      }
      return forms
    } finally {
      if (this.#running.get(group) === batch) this.#running.delete(group)
    }
  }
}

function commonPrefix(names: readonly string[]): string {
  const [first = ''] = names
  let length = first.length
  for (const name of names) while (!name.startsWith(first.slice(0, length))) length--
  return first.slice(0, length)
}
