/** The rules of the house, each a function from sources to complaints, so that they can be tried on bad examples. */
import ts from 'typescript'
import { lineOf, type SourceFile, walk } from './source-files.ts'

/** The rooms from top to bottom: one may import from those below it. Rooms in one row do not import each other. */
export const roomOrder: readonly (readonly string[])[] = [
  ['main.ts'],
  ['cli'],
  ['serve'],
  ['service'],
  ['config'],
  ['check'],
  ['status'],
  ['daemon'],
  ['copy'],
  ['receive', 'restore', 'backup', 'push', 'retention', 'objects'],
  ['catalog'],
  ['walg'],
  ['postgres'],
  ['storage'],
  ['compression'],
  ['crypto'],
  ['aws'],
  ['observe'],
  ['primitives'],
]

/**
 * The inside of a room from top to bottom: sub-rooms, and files of the room itself that do not lie in the row `.`, which
 * stands for all others of them. Members of one row do not import each other; files in `.` and in one sub-room may.
 */
export const subRoomOrder: Readonly<Record<string, readonly (readonly string[])[]>> = {
  cli: [['program.ts'], ['arguments'], ['command-loaders.ts'], ['commands'], ['settings', 'terminal'], ['.']],
  serve: [['.'], ['jobs'], ['configuration'], ['schedule']],
  config: [['inspect'], ['.'], ['keys'], ['options'], ['commands.ts']],
  check: [['run-check.ts'], ['both-sides.ts'], ['server', 'storage', 'machine'], ['.']],
  receive: [['receiver.ts'], ['receive-run.ts'], ['gap'], ['source'], ['slot', 'stream', 'tail'], ['segment'], ['.']],
  copy: [['.'], ['scope'], ['compare']],
  restore: [['backup', 'prefetch', 'recovery', 'rewind'], ['wal']],
  retention: [['removal'], ['plan'], ['rules'], ['contents']],
  backup: [
    ['backup-push.ts', 'plan'],
    ['backup-begin.ts', 'backup-finish.ts', 'scrub.ts', 'build-sentinel.ts'],
    ['delta'],
    ['parts', '.'],
  ],
  catalog: [['overview'], ['window'], ['.']],
  walg: [['wal'], ['backup', 'increment'], ['stored'], ['.']],
  postgres: [['backup'], ['relations'], ['connect'], ['wal'], ['protocol'], ['.']],
  storage: [['file', 's3'], ['.']],
  primitives: [['json'], ['.']],
  crypto: [['libsodium', 'openpgp', 'kms'], ['.']],
  compression: [['codecs.ts'], ['brotli.ts', 'gzip.ts', 'lz4', 'lzma.ts', 'none.ts', 'zstd'], ['.']],
}

const fileLinesMax = 350
const functionLinesMax = 60
const folderFilesMax = 14

/** Files, functions (`file:name`) and folders that may be larger, with the reason. */
export const mayBeLarger: Readonly<Record<string, string>> = {
  'cli/commands': 'one file for each command, as the help lists them',
}

const rankOf = (room: string) => roomOrder.findIndex((row) => row.includes(room))

/** Imports that point upwards, sideways, or out of `src/`; dynamic ones and types count too. */
export function upwardImports(sources: readonly SourceFile[]): string[] {
  return sources.flatMap((source) =>
    source.imports.flatMap(({ target, specifier }) => {
      if (rankOf(source.room) < 0) return [`${source.path}: ${source.room} is no room`]
      if (target === undefined) return []
      const room = target.includes('/') ? (target.split('/', 1)[0] ?? '') : target
      const isAllowed = room === source.room || rankOf(room) > rankOf(source.room)
      return isAllowed ? [] : [`${source.path} imports ${specifier}: ${room} is not below ${source.room}`]
    }),
  )
}

/** Imports within a room that point upwards or sideways by {@link subRoomOrder}, and files that have no place in it. */
export function upwardInside(sources: readonly SourceFile[]): string[] {
  return sources.flatMap((source) => {
    const rows = subRoomOrder[source.room]
    if (!rows) return source.path.split('/').length > 2 ? [`${source.path}: ${source.room} has no sub-rooms`] : []
    const own = placeInside(source.path, rows)
    if (!own) return [`${source.path} has no place in ${source.room}`]
    return source.imports.flatMap(({ target, specifier }) => {
      const to = target?.startsWith(`${source.room}/`) ? placeInside(target, rows) : undefined
      if (!to || to.name === own.name || to.row > own.row) return []
      return [`${source.path} imports ${specifier}: ${to.name} is not below ${own.name}`]
    })
  })
}

/** Row and name of the place that a file has inside its room; undefined for none. */
function placeInside(
  path: string,
  rows: readonly (readonly string[])[],
): { readonly name: string; readonly row: number } | undefined {
  const [, first = '', second] = path.split('/')
  const row = rows.findIndex((names) => names.includes(first))
  if (row >= 0) return { name: first, row }
  const rest = second === undefined ? rows.findIndex((names) => names.includes('.')) : -1
  return rest >= 0 ? { name: '.', row: rest } : undefined
}

/** Circles of imports, those of types included, each shown once by its files. */
export function importCircles(sources: readonly SourceFile[]): string[] {
  const targets = new Map(
    sources.map((source) => [
      source.path,
      source.imports.flatMap(({ target }) => (target !== undefined ? [target] : [])),
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

/** Files over 350 lines and functions over 60, but for those in {@link mayBeLarger}. */
export function tooLong(sources: readonly SourceFile[]): string[] {
  return sources.flatMap((source) => {
    const complaints: string[] = []
    if (source.lineCount > fileLinesMax && !(source.path in mayBeLarger)) {
      complaints.push(`${source.path} has ${source.lineCount} lines`)
    }
    walk(source.tree, (node) => {
      if (!ts.isFunctionLike(node) || !('body' in node) || !node.body) return
      const lines = source.tree.getLineAndCharacterOfPosition(node.getEnd()).line + 2 - lineOf(node)
      const name = 'name' in node && node.name ? node.name.getText() : ''
      if (lines <= functionLinesMax || `${source.path}:${name}` in mayBeLarger) return
      complaints.push(`${source.path}:${lineOf(node)} is a function of ${lines} lines`)
    })
    return complaints
  })
}

/** Folders with more than 14 files of their own, but for those in {@link mayBeLarger}. */
export function flatFolders(sources: readonly SourceFile[]): string[] {
  const counts = new Map<string, number>()
  for (const { path } of sources) {
    const folder = path.split('/').slice(0, -1).join('/')
    counts.set(folder, (counts.get(folder) ?? 0) + 1)
  }
  return [...counts]
    .filter(([folder, count]) => count > folderFilesMax && !(folder in mayBeLarger))
    .map(([folder, count]) => `${folder} has ${count} files`)
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
