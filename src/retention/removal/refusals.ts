/** Objects that the storage does not let us remove: counted, with the first ones by name. */
import { WalrxError } from '../../primitives/errors.ts'

/** How many are remembered by name. */
const shownMax = 20

/** One object, and why it was kept. */
export interface Refusal {
  readonly key: string
  readonly error: WalrxError
}

/** What a refusal says besides the key and the place, which are shown by its caller. */
export function reasonOf({ error, key }: Refusal): string {
  const begin = `delete of ${key} at `
  const { message } = error
  return message.startsWith(begin) ? message.slice(message.indexOf(' failed: ') + ' failed: '.length) : message
}

/** See the file's header. */
export class Refusals {
  readonly #shown: Refusal[] = []
  #count = 0

  /** How many objects. */
  get count(): number {
    return this.#count
  }

  /** The first of them. */
  get shown(): readonly Refusal[] {
    return this.#shown
  }

  /** Notes one. */
  readonly add = (key: string, error: WalrxError): void => {
    this.#count++
    if (this.#shown.length < shownMax) this.#shown.push({ key, error })
  }

  /** The error that a command ends with; undefined where nothing was refused. */
  toError(location: string): WalrxError | undefined {
    const [first] = this.#shown
    if (!first) return undefined
    const others = this.#count > 1 ? ` and ${this.#count - 1} more` : ''
    const reason = reasonOf(first)
    const { hint = 'the lock or the policy has to allow it' } = first.error
    return new WalrxError('WALRX_STORAGE_DENIED', `the storage kept ${first.key}${others} at ${location}: ${reason}`, {
      cause: first.error,
      hint: `${hint}; all that is left is consistent: run the same command again then`,
    })
  }
}
