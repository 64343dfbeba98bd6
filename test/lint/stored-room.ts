/**
 * The rule that objects are read and written in one room: what only `walg/stored/` and the rooms below it may use, found
 * by what a name stands for. The sources are type-checked for that, so that no other name and no other way of writing it
 * hides a use.
 */
import { posix } from 'node:path'
import ts from 'typescript'
import { lineOf, type SourceFile, walk } from './source-files.ts'

/** Names by the room that declares them. */
const reserved: Readonly<Record<string, readonly string[]>> = {
  storage: ['get', 'put', 'putIfAbsent', 'readObject'],
  compression: ['codecOfExtension', 'decoder', 'decodePieces', 'encodeInPlace', 'encoder', 'openReadCodec'],
}

/** Where they may be used. */
const mayUse = [...Object.keys(reserved).map((room) => `${room}/`), 'walg/stored/']

/** Where the sources lie for the type checker. */
const top = '/src/'

/** Reads and writes of the storage, and uses of codecs, outside of `walg/stored/` and the rooms that declare them. */
export function outsideStoredRoom(sources: readonly SourceFile[]): string[] {
  const program = programOf(sources)
  const checker = program.getTypeChecker()
  return sources.flatMap(({ path }) => {
    const tree = program.getSourceFile(top + path)
    const complaints: string[] = []
    if (!tree || mayUse.some((folder) => path.startsWith(folder))) return complaints
    walk(tree, (node) => {
      const used = symbolsUsed(node, checker).find(isReserved)
      if (used) complaints.push(`${path}:${lineOf(node)} uses ${used.name}: read and write by walg/stored/`)
    })
    return complaints
  })
}

/** WAL-G's and walrx's folders in the sources of the storage, which is to know nothing of them. */
export function foldersInStorage(sources: readonly SourceFile[]): string[] {
  return sources.flatMap(({ path, room, tree }) => {
    const [folder] = /\b[a-z]+_005\b/.exec(room === 'storage' ? tree.text : '') ?? []
    return folder === undefined ? [] : [`${path} names ${folder}: the rooms above pass folders in`]
  })
}

function isReserved(symbol: ts.Symbol): boolean {
  return (symbol.declarations ?? []).some((declaration) => {
    const [room = ''] = declaration.getSourceFile().fileName.slice(top.length).split('/')
    return reserved[room]?.includes(symbol.name) === true
  })
}

/** Names that may stand for something reserved: no other one is worth finding out its type. */
const names = new Set(Object.values(reserved).flat())

/** What a node names: a property by a dot, by brackets or by destructuring, or an import. */
function symbolsUsed(node: ts.Node, checker: ts.TypeChecker): ts.Symbol[] {
  const found = (symbol: ts.Symbol | undefined) => (symbol ? [symbol] : [])
  const property = (type: ts.Type, name: string) => found(checker.getPropertyOfType(type, name))
  if (ts.isPropertyAccessExpression(node)) {
    return names.has(node.name.text) ? found(checker.getSymbolAtLocation(node.name)) : []
  }
  if (ts.isElementAccessExpression(node)) {
    const argument = checker.getTypeAtLocation(node.argumentExpression)
    const literals = (argument.isUnion() ? argument.types : [argument]).filter((type) => type.isStringLiteral())
    const wanted = literals.map(({ value }) => value).filter((value) => names.has(value))
    return wanted.flatMap((name) => property(checker.getTypeAtLocation(node.expression), name))
  }
  if (ts.isBindingElement(node) && ts.isObjectBindingPattern(node.parent)) {
    const name = (node.propertyName ?? node.name).getText()
    return names.has(name) ? property(checker.getTypeAtLocation(node.parent), name) : []
  }
  if (!ts.isImportSpecifier(node) || !names.has((node.propertyName ?? node.name).text)) return []
  const symbol = checker.getSymbolAtLocation(node.name)
  return found(symbol && checker.getAliasedSymbol(symbol))
}

/** The sources alone: packages and Node's own types are not needed to know what is ours. */
function programOf(sources: readonly SourceFile[]): ts.Program {
  const texts = new Map(sources.map(({ path, tree }) => [top + path, tree.text]))
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2024,
    lib: ['lib.es2024.d.ts'],
    module: ts.ModuleKind.ESNext,
    moduleResolution: ts.ModuleResolutionKind.Bundler,
    allowImportingTsExtensions: true,
    noEmit: true,
    strict: true,
    types: [],
  }
  const host = ts.createCompilerHost(options)
  const readLibrary = host.getSourceFile.bind(host)
  return ts.createProgram([...texts.keys()], options, {
    ...host,
    getCurrentDirectory: () => top,
    fileExists: (name) => texts.has(name) || host.fileExists(name),
    getSourceFile: (name, language) => {
      const text = texts.get(name)
      return text === undefined ? readLibrary(name, language) : ts.createSourceFile(name, text, language, true)
    },
    resolveModuleNameLiterals: (literals, from) =>
      literals.map(({ text }) => {
        const target = posix.join(posix.dirname(from), text)
        const isOurs = text.startsWith('.') && texts.has(target)
        return { resolvedModule: isOurs ? { resolvedFileName: target, extension: ts.Extension.Ts } : undefined }
      }),
  })
}
