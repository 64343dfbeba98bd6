/** The TypeScript sources as syntax trees, with what the architecture test asks of them. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

/** The top of the repository. */
export const repository = fileURLToPath(new URL('../..', import.meta.url))

/** One import or re-export, static or dynamic. */
export interface ImportOf {
  /** As written: `node:fs`, `pg`, `../primitives/errors.ts`. */
  readonly specifier: string
  /** For a relative one the path from `src/`; else undefined. */
  readonly target: string | undefined
  /** False when only types come from it: it is gone at run time. */
  readonly atRunTime: boolean
  readonly isDynamic: boolean
  /** True for `import x from` and `import * as x`. */
  readonly isWhole: boolean
}

/** One source file. */
export interface SourceFile {
  /** Path from `src/`. */
  readonly path: string
  /** First folder of the path; the file's own name at the top. */
  readonly room: string
  readonly lineCount: number
  readonly imports: readonly ImportOf[]
  readonly tree: ts.SourceFile
}

/** Parses a source text as the file of that path below `src/`. */
export function parseSource(path: string, text: string): SourceFile {
  const tree = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true)
  const room = path.includes('/') ? (path.split('/', 1)[0] ?? '') : path
  return { path, room, lineCount: text.trimEnd().split('\n').length, imports: importsOf(tree, path), tree }
}

/** All sources below `src/`. */
export function readSources(): SourceFile[] {
  const top = join(repository, 'src')
  const names = readdirSync(top, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
  return names.sort().map((name) => parseSource(relative(top, join(top, name)), readFileSync(join(top, name), 'utf8')))
}

/** Calls `visit` for a node and everything below it. */
export function walk(node: ts.Node, visit: (node: ts.Node) => void): void {
  visit(node)
  node.forEachChild((child) => walk(child, visit))
}

/** The line of a node, from 1. */
export function lineOf(node: ts.Node): number {
  return node.getSourceFile().getLineAndCharacterOfPosition(node.getStart()).line + 1
}

function importsOf(tree: ts.SourceFile, path: string): ImportOf[] {
  const found: ImportOf[] = []
  const add = (specifier: ts.Node | undefined, atRunTime: boolean, isDynamic: boolean, isWhole = false) => {
    if (!specifier || !ts.isStringLiteralLike(specifier)) return
    const target = specifier.text.startsWith('.') ? resolve('/', dirname(path), specifier.text).slice(1) : undefined
    found.push({ specifier: specifier.text, target, atRunTime, isDynamic, isWhole })
  }
  walk(tree, (node) => {
    if (ts.isImportDeclaration(node)) add(node.moduleSpecifier, hasValues(node.importClause), false, isWhole(node))
    else if (ts.isExportDeclaration(node)) add(node.moduleSpecifier, !node.isTypeOnly, false)
    else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) add(node.argument.literal, false, false)
    else if (ts.isCallExpression(node) && isImportCall(node.expression)) add(node.arguments[0], true, true, true)
  })
  return found
}

/** `import(…)`, and `require(…)` for packages that are CommonJS. */
function isImportCall(callee: ts.Expression): boolean {
  return callee.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(callee) && callee.text === 'require')
}

function isWhole(node: ts.ImportDeclaration): boolean {
  const clause = node.importClause
  return clause === undefined || clause.namedBindings === undefined || !ts.isNamedImports(clause.namedBindings)
}

function hasValues(clause: ts.ImportClause | undefined): boolean {
  if (!clause) return true
  if (clause.phaseModifier === ts.SyntaxKind.TypeKeyword) return false
  if (clause.name || !clause.namedBindings || !ts.isNamedImports(clause.namedBindings)) return true
  return clause.namedBindings.elements.some((element) => !element.isTypeOnly)
}
