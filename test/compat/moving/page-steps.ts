/** The shell commands of docs/from-walg.md, by the headings that they stand under. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { repository } from '../../lint/source-files.ts'

/** Path of the page from the top of the repository. */
export const page = 'docs/from-walg.md'

/** One block of shell commands. */
export interface ShellBlock {
  /** The heading above it. */
  readonly heading: string
  /** Its commands, a line each, without the indentation of a numbered step. */
  readonly lines: readonly string[]
}

/** All blocks of the page, in their order. */
export function readShellBlocks(): ShellBlock[] {
  const blocks: ShellBlock[] = []
  let heading = ''
  let open: string[] | undefined
  for (const line of readFileSync(join(repository, page), 'utf8').split('\n')) {
    const text = line.trim()
    if (open && text === '```') {
      blocks.push({ heading, lines: open })
      open = undefined
    } else if (open) open.push(text)
    else if (text === '```sh') open = []
    else heading = /^#+ (.*)$/.exec(line)?.[1] ?? heading
  }
  return blocks
}

/** The blocks under a heading; fails where it has another number of them, for then the test has to follow. */
export function blocksUnder(heading: string, count: number): readonly ShellBlock[] {
  const blocks = readShellBlocks().filter((block) => block.heading === heading)
  assert.equal(blocks.length, count, `${page} has ${blocks.length} blocks of commands under "${heading}"`)
  return blocks
}
