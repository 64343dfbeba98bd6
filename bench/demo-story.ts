/** What the demo prints: numbered steps, facts below them, and a verdict for every check. */

const useColours = process.stdout.isTTY && !process.env['NO_COLOR']

function paint(code: number, text: string): string {
  return useColours ? `\u001b[${code}m${text}\u001b[0m` : text
}

/** Prints the story of one run. */
export class Story {
  readonly #startedAtMs = performance.now()
  #steps = 0
  #failures = 0

  /** True while every check held. */
  get isHappy(): boolean {
    return this.#failures === 0
  }

  /** The first line of all. */
  title(text: string): void {
    this.#print(paint(1, text))
  }

  /** Begins a step. */
  step(text: string): void {
    this.#steps++
    this.#print(`\n${paint(36, `${this.#steps}.`)} ${paint(1, text)}`)
  }

  /** Something about the present step. */
  fact(text: string): void {
    this.#print(`   ${text}`)
  }

  /** A command as an operator would type it. */
  command(text: string): void {
    this.#print(`   ${paint(2, '$')} ${text}`)
  }

  /** The output of a command. */
  quote(text: string): void {
    for (const line of text.trimEnd().split('\n')) this.#print(`   ${paint(2, line)}`)
  }

  /** Prints whether a check holds. */
  check(holds: boolean, text: string): void {
    if (!holds) this.#failures++
    this.#print(`   ${holds ? paint(32, '✓') : paint(31, '✗')} ${text}`)
  }

  /** The last line. */
  end(): void {
    const seconds = ((performance.now() - this.#startedAtMs) / 1000).toFixed(1)
    if (this.isHappy) this.#print(`\n${paint(32, 'Everything holds.')} ${seconds} s`)
    else this.#print(`\n${paint(31, `${this.#failures} of the checks failed.`)} ${seconds} s`)
  }

  #print(text: string): void {
    process.stdout.write(`${text}\n`)
  }
}

/** A number with separators, `61,204`. */
export function grouped(value: number): string {
  return value.toLocaleString('en-US')
}
