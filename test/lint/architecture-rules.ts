/** The rules of the house, each a function from sources to complaints, so that they can be tried on bad examples. */
import ts from 'typescript'
import { lineOf, type SourceFile, walk } from './source-files.ts'

/** The rooms in their order: one may import from those behind it. Rooms in one row are strangers to each other. */
export const roomOrder: readonly (readonly string[])[] = [
  ['main.ts'],
  ['cli'],
  ['config'],
  ['status'],
  ['receive', 'restore', 'backup'],
  ['catalog'],
  ['walg'],
  ['postgres'],
  ['storage'],
  ['compression'],
  ['crypto'],
  ['observe'],
  ['primitives'],
]

const fileLinesMax = 400
const functionLinesMax = 70

const rankOf = (room: string) => roomOrder.findIndex((row) => row.includes(room))

/** Imports that point to the left, to a stranger, or out of `src/`; dynamic ones and types count too. */
export function upwardImports(sources: readonly SourceFile[]): string[] {
  return sources.flatMap((source) =>
    source.imports.flatMap(({ target, specifier }) => {
      if (rankOf(source.room) < 0) return [`${source.path}: ${source.room} is no room`]
      if (target === undefined) return []
      const room = target.includes('/') ? (target.split('/', 1)[0] ?? '') : target
      const isAllowed = room === source.room || rankOf(room) > rankOf(source.room)
      return isAllowed ? [] : [`${source.path} imports ${specifier}: ${room} is not behind ${source.room}`]
    }),
  )
}

/** Circles of imports that exist at run time, each told once by its files. */
export function importCircles(sources: readonly SourceFile[]): string[] {
  const targets = new Map(
    sources.map((source) => [
      source.path,
      source.imports.flatMap(({ target, atRunTime }) => (atRunTime && target !== undefined ? [target] : [])),
    ]),
  )
  const circles = new Set<string>()
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]) => {
    const at = trail.indexOf(path)
    if (at >= 0) circles.add(trail.slice(at).toSorted().join(' - '))
    if (at >= 0 || done.has(path)) return
    for (const target of targets.get(path) ?? []) visit(target, [...trail, path])
    done.add(path)
  }
  for (const path of targets.keys()) visit(path, [])
  return [...circles]
}

/** Barrels, default exports, `utils`, and names that are not kebab-case. */
export function badFiles(sources: readonly SourceFile[]): string[] {
  return sources.flatMap(({ path, tree }) => {
    const complaints: string[] = []
    const name = path.split('/').at(-1) ?? ''
    if (name === 'index.ts') complaints.push(`${path} is an index.ts`)
    if (/(^|[/-])util(s|ities)?(\.ts$|\/)|(^|\/)helpers?\.ts$/.test(path))
      complaints.push(`${path} has no name of its own`)
    if (!/^([a-z0-9]+(-[a-z0-9]+)*\/)*[a-z0-9]+(-[a-z0-9]+)*\.ts$/.test(path))
      complaints.push(`${path} is not kebab-case`)
    for (const statement of tree.statements) {
      if (ts.isExportDeclaration(statement))
        complaints.push(`${path}:${lineOf(statement)} exports by a list or from another file`)
      if (isDefaultExport(statement)) complaints.push(`${path}:${lineOf(statement)} is a default export`)
    }
    return complaints
  })
}

/** Files over 400 lines and functions over 70. */
export function tooLong(sources: readonly SourceFile[]): string[] {
  return sources.flatMap((source) => {
    const complaints: string[] = []
    if (source.lineCount > fileLinesMax) complaints.push(`${source.path} has ${source.lineCount} lines`)
    walk(source.tree, (node) => {
      if (!ts.isFunctionLike(node) || !('body' in node) || !node.body) return
      const lines = source.tree.getLineAndCharacterOfPosition(node.getEnd()).line + 2 - lineOf(node)
      if (lines > functionLinesMax) complaints.push(`${source.path}:${lineOf(node)} is a function of ${lines} lines`)
    })
    return complaints
  })
}

/** Reads of the process's environment outside of `config/` and `main.ts`. */
export function environmentReads(sources: readonly SourceFile[]): string[] {
  const others = sources.filter(({ room }) => room !== 'config' && room !== 'main.ts')
  return others.flatMap((source) => {
    const complaints: string[] = []
    walk(source.tree, (node) => {
      const isRead = ts.isPropertyAccessExpression(node) && node.getText() === 'process.env'
      const isIndexed = ts.isElementAccessExpression(node) && /^process\[['"]env['"]\]$/.test(node.getText())
      const isImported = ts.isImportSpecifier(node) && (node.propertyName ?? node.name).text === 'env'
      if (isRead || isIndexed || isImported) complaints.push(`${source.path}:${lineOf(node)} reads the environment`)
    })
    return complaints
  })
}

/** Exported things without a doc comment. Constants that follow each other without a blank line share one. */
export function undocumented(sources: readonly SourceFile[]): string[] {
  return sources.flatMap(({ path, tree }) =>
    tree.statements.flatMap((statement, index) => {
      if (!isExported(statement) || hasDoc(statement)) return []
      const before = tree.statements[index - 1]
      const isShared = before && hasDoc(before) && isExported(before) && isNextLine(before, statement)
      return isShared && ts.isVariableStatement(statement) ? [] : [`${path}:${lineOf(statement)} has no doc comment`]
    }),
  )
}

/** Builtin modules without `node:`, and relative imports without `.ts`. */
export function badSpecifiers(sources: readonly SourceFile[], builtins: readonly string[]): string[] {
  return sources.flatMap(({ path, imports }) =>
    imports.flatMap(({ specifier, target }) => {
      if (builtins.includes(specifier)) return [`${path} imports ${specifier} without node:`]
      return target !== undefined && !target.endsWith('.ts') ? [`${path} imports ${specifier} without .ts`] : []
    }),
  )
}

/**
 * What `main.ts` loads before it has checked Node's version, if an old Node could fail on it: packages, and functions
 * imported by name from Node, which must all be old.
 */
export function unsafeStart(sources: readonly SourceFile[], oldNames: readonly string[]): string[] {
  const reached = new Map<string, SourceFile>()
  const reach = (path: string) => {
    const source = sources.find((each) => each.path === path)
    if (!source || reached.has(path)) return
    reached.set(path, source)
    for (const { target, atRunTime, isDynamic } of source.imports) {
      if (target !== undefined && atRunTime && !isDynamic) reach(target)
    }
  }
  reach('main.ts')
  return [...reached.values()].flatMap(({ path, imports }) =>
    imports.flatMap(({ specifier, target, atRunTime, isDynamic, isWhole }) => {
      if (target !== undefined || !atRunTime || isDynamic || oldNames.includes(specifier)) return []
      return isWhole && specifier.startsWith('node:') ? [] : [`${path} imports ${specifier} before the check`]
    }),
  )
}

function isDefaultExport(statement: ts.Statement): boolean {
  if (ts.isExportAssignment(statement)) return true
  const modifiers = ts.canHaveModifiers(statement) ? ts.getModifiers(statement) : undefined
  return modifiers?.some(({ kind }) => kind === ts.SyntaxKind.DefaultKeyword) ?? false
}

function isExported(statement: ts.Statement): boolean {
  const modifiers = ts.canHaveModifiers(statement) ? ts.getModifiers(statement) : undefined
  return modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) ?? false
}

function hasDoc(statement: ts.Statement): boolean {
  return ts.getJSDocCommentsAndTags(statement).some((doc) => ts.isJSDoc(doc) && doc.getText().length > '/** */'.length)
}

function isNextLine(before: ts.Statement, statement: ts.Statement): boolean {
  const tree = statement.getSourceFile()
  return tree.getLineAndCharacterOfPosition(before.getEnd()).line + 2 === lineOf(statement)
}
