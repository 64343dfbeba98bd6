/** A text that must not be printed by accident: no inspection, no JSON and no string of anything that holds it shows it. */
export class Secret {
  readonly #text: string

  constructor(text: string) {
    this.#text = text
  }

  /** The text. What is done with it must not print it either. */
  reveal(): string {
    return this.#text
  }

  /** What stands for it. */
  toString(): string {
    return '[redacted]'
  }

  /** What stands for it in JSON. */
  toJSON(): string {
    return '[redacted]'
  }

  /** What `util.inspect` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return '[redacted]'
  }
}
