/** The documents of the repository, with what the tests ask of them. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'

/** One document. */
export interface Document {
  /** Path from the top of the repository: `docs/deltas.md`. */
  readonly path: string
  readonly text: string
}

/** README.md and all of docs/. */
export function readDocuments(top: string): Document[] {
  const pages = readdirSync(join(top, 'docs')).filter((name) => name.endsWith('.md'))
  const paths = ['README.md', ...pages.sort().map((name) => `docs/${name}`)]
  return paths.map((path) => ({ path, text: readFileSync(join(top, path), 'utf8') }))
}

/** The text without blocks and spans of code, in which brackets mean something else. */
function prose(text: string): string {
  return text.replace(/^ *```[^]*?^ *```$/gm, '').replace(/`[^`\n]*`/g, 'code')
}

/** Targets of the links and pictures of a text, in their order. */
export function linkTargets(text: string): string[] {
  return [...prose(text).matchAll(/\]\(([^()\s]+)\)/g)].map(([, target = '']) => target)
}

/** What `#…` may name in a text: its headings, as GitHub makes anchors of them, and ids that stand in it. */
export function anchorsOf(text: string): Set<string> {
  const anchors = new Set([...text.matchAll(/<a id="([^"]+)">/g)].map(([, id = '']) => id))
  for (const [, heading = ''] of text.replace(/^ *```[^]*?^ *```$/gm, '').matchAll(/^#{1,6} (.+)$/gm)) {
    const slug = heading
      .trim()
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-')
    let anchor = slug
    for (let count = 1; anchors.has(anchor); count++) anchor = `${slug}-${count}`
    anchors.add(anchor)
  }
  return anchors
}

/** Links of the documents that lead nowhere: no such file, or no such anchor in it. */
export function brokenLinks(top: string, documents: readonly Document[]): string[] {
  const texts = new Map(documents.map(({ path, text }) => [path, text]))
  return documents.flatMap(({ path, text }) =>
    linkTargets(text)
      .filter((target) => !/^[a-z]+:/.test(target))
      .flatMap((target) => {
        const [file = '', anchor] = target.split('#')
        const to = file === '' ? path : normalize(join(dirname(path), file))
        const full = join(top, to)
        if (to.startsWith('..') || !existsSync(full)) return [`${path}: there is no ${to}`]
        if (anchor === undefined) return []
        if (statSync(full).isDirectory()) return [`${path}: ${to} is a folder and has no #${anchor}`]
        const there = texts.get(to) ?? readFileSync(full, 'utf8')
        return anchorsOf(there).has(anchor) ? [] : [`${path}: ${to} has no #${anchor}`]
      }),
  )
}

/** Paths of our own files and folders (these end with a slash) that a text names. */
export function namedPaths(text: string): string[] {
  const pattern = /(?<![\w/.-])(?:src|test|bench|docker|compose)\/[\w./-]*(?:\.(?:ts|js|yaml|md)|\/)(?![\w-])/g
  return [...new Set([...text.matchAll(pattern)].map(([path]) => path))]
}

/** Paths that the documents name and that do not exist. */
export function lostPaths(top: string, documents: readonly Document[]): string[] {
  const isThere = (path: string) =>
    existsSync(join(top, path)) && statSync(join(top, path)).isDirectory() === path.endsWith('/')
  return documents.flatMap(({ path, text }) =>
    namedPaths(text)
      .filter((named) => !isThere(named))
      .map((named) => `${path}: there is no ${named}`),
  )
}
