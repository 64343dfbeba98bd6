/** What a recorded disk knows of a change, and which of several a power cut may lose. */

/** A file, directory or link, whatever names it has. */
export interface Node {
  readonly id: number
  /** Of a directory: what lies in it now. */
  readonly entries: Map<string, Node> | undefined
  /** Of a symbolic link: where it leads. */
  readonly target: string | undefined
}

/** What a power cut may lose: entries of a directory, or (without entries) content or mode of `node`. */
export interface Change {
  /** Whose fsync makes it durable. */
  readonly node: Node
  readonly entries: readonly (readonly [name: string, node: Node | undefined])[]
}

/** Which of the changes that may be lost are there. */
export function choicesOf(pending: readonly Change[]): ((change: Change) => boolean)[] {
  const choices: ((change: Change) => boolean)[] = [() => false, () => true]
  for (const one of pending)
    choices.push(
      (change) => change === one,
      (change) => change !== one,
    )
  return choices
}
