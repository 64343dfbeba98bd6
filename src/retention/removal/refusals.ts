/** Objects that the storage does not let us remove: counted, with the first ones by name. */
import { WalrxError } from '../../primitives/errors.ts'

/** How many are remembered by name. */
const shownMax = 20

/** See the file's header. */
export class Refusals {
  readonly #shown: { readonly key: string; readonly error: WalrxError }[] = []
  #count = 0

  /** How many objects. */
  get count(): number {
    return this.#count
  }

  /** The first of them. */
  get shown(): readonly { readonly key: string; readonly error: WalrxError }[] {
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
    return new WalrxError(
      'WALRX_STORAGE_DENIED',
      `the storage kept ${first.key}${others} at ${location}: ${first.error.message}`,
      {
        cause: first.error,
        hint: 'all that is left is consistent: run the same command again when the lock or the policy allows it',
      },
    )
  }
}
