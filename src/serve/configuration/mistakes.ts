/** What is wrong with a configuration: each mistake with its line and column, and none with the value that is there. */
import type { LineCounter } from 'yaml'

/** Where something stands; both from 1. */
export interface Place {
  readonly line: number
  readonly column: number
}

/** One mistake. */
export interface Mistake {
  readonly place: Place
  /** One line without a full stop. Values are left out: each could be a secret. */
  readonly text: string
}

/** Gathers the mistakes of one file. */
export class Mistakes {
  readonly #lines: LineCounter
  readonly #found = new Map<string, Mistake>()

  constructor(lines: LineCounter) {
    this.#lines = lines
  }

  /** Gathers those of another reading of the same file, which are not to count. */
  apart(): Mistakes {
    return new Mistakes(this.#lines)
  }

  /** The place of a position in the text. */
  placeAt(offset: number | undefined): Place {
    const { col, line } = this.#lines.linePos(Math.max(0, offset ?? 0))
    return { line: Math.max(1, line), column: Math.max(1, col) }
  }

  /** Notes one; the same at the same place counts once. */
  add(place: Place, text: string): void {
    const plain = text.replace(/\s+/g, ' ').trim()
    this.#found.set(`${place.line}:${place.column} ${plain}`, { place, text: plain })
  }

  /** All, in the order of the file. */
  list(): Mistake[] {
    return [...this.#found.values()].sort(
      (a, b) => a.place.line - b.place.line || a.place.column - b.place.column || (a.text < b.text ? -1 : 1),
    )
  }
}

/** `walrx.yaml:12:7: text`, as compilers write it and editors understand it. */
export function mistakeLine(path: string, { place, text }: Mistake): string {
  return `${path.replace(/[\0-\x1f\x7f]/g, '?')}:${place.line}:${place.column}: ${text}`
}
