/** `walrx st VERB`: single objects of the storage, as WAL-G's st. */
import { createReadStream } from 'node:fs'
import { open as openFile, stat, unlink } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { OptionKey } from '../../config/options/options.ts'
import { openCodec, openStorage } from '../../config/open-storage.ts'
import { isOfArchive, removeObjects } from '../../objects/object-removal.ts'
import { listBelow, listFolder, listMatching } from '../../objects/object-listing.ts'
import { objectKeyOf, parseObjectPath } from '../../objects/object-path.ts'
import { parsePattern } from '../../objects/object-pattern.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { isTempName } from '../../storage/temp-name.ts'
import { type AnyReading, keyOfAny, openAnyObject, putAnyObject } from '../../walg/stored/transfer/any-object.ts'
import type { Command, CommandContext } from '../command.ts'
import { counted, humanSize } from '../terminal/human-size.ts'
import { forDeletion, LinkNotes, reportVersions } from '../terminal/deletion-notes.ts'
import { StoreWaits } from '../terminal/store-waits.ts'
import { EntryPrinter } from '../terminal/entry-printer.ts'

type Context = CommandContext<'st', 'verb', never>

/** One verb. */
interface Verb {
  /** Names of its arguments; one that may be missing ends with `?`, any number with `…`. */
  readonly args: readonly string[]
  /** Its options, of those that only some verbs have. */
  readonly options: readonly OptionKey[]
  readonly run: (storage: Storage, args: readonly string[], context: Context) => Promise<number>
}

const verbs: Readonly<Record<string, Verb>> = {
  ls: { args: ['path?'], options: ['recursive', 'glob', 'json'], run: list },
  stat: { args: ['path'], options: ['json'], run: show },
  get: { args: ['path', 'file'], options: ['decrypt', 'decompress'], run: get },
  cat: { args: ['path'], options: ['decrypt', 'decompress', 'glob'], run: cat },
  put: { args: ['file', 'path'], options: ['encrypt', 'compress', 'readStdin', 'overwrite'], run: put },
  rm: { args: ['path'], options: ['glob', 'overwrite', 'dryRun', 'json'], run: remove },
  check: { args: ['read|write', 'path…'], options: [], run: check },
}

/** Options that are of some verbs only. */
const verbOptions = [...new Set(Object.values(verbs).flatMap(({ options }) => options))]

/** See the file's header. */
export const stCommand: Command<'st', 'verb', never> = {
  name: 'st',
  positionals: [{ name: 'verb', help: 'ls, stat, get, cat, put, rm or check' }],
  rest: { name: 'argument', help: 'what the verb needs: paths in the storage, and files' },
  examples: [
    { call: 'walrx st ls', means: 'list the folders of the archive' },
    { call: 'walrx st ls -r wal_005/', means: 'list all objects of a folder, at any depth; --json prints an array' },
    { call: "walrx st ls -g 'basebackups_005/*.json'", means: 'list what matches a pattern' },
    { call: 'walrx st stat walrx_005/system.json', means: 'show size and time of one object, without a listing' },
    { call: 'walrx st cat walrx_005/system.json', means: 'print an object; --decrypt and --decompress decode it' },
    {
      call: 'walrx st put notes.txt notes/today',
      means: 'store a file, compressed and encrypted; -s reads standard input',
    },
    {
      call: 'walrx st get notes/today.zst /tmp/today',
      means: 'fetch an object into a new file, decrypted and decompressed',
    },
    { call: 'walrx st rm notes/', means: 'remove an object or a folder; what the archive is made of needs --force' },
    {
      call: 'walrx st check read walrx_005/system.json',
      means: 'check that the storage can be read, and has these objects',
    },
    { call: 'walrx st check write', means: 'check that the storage can be written' },
  ],
  async run(context) {
    const { log, options, positionals, rest } = context
    const verb = verbOf(positionals.verb)
    checkCall(context, verb)
    const storage = await openStorage(options, new StoreWaits(log).onTrouble)
    try {
      return await verb.run(storage, rest, context)
    } finally {
      await storage.close()
    }
  },
}

/** Verbs of WAL-G that walrx does in another way. */
const elsewhere: Readonly<Record<string, string>> = {
  copy: 'walrx copy --to ARCHIVE copies an archive; st get and st put copy one object',
  transfer: 'walrx has one storage, and none to fail over to: walrx copy --to ARCHIVE copies an archive',
  list: 'did you mean ls?',
  delete: 'did you mean rm?',
  head: 'did you mean stat?',
}

function verbOf(word: string): Verb {
  const verb = Object.hasOwn(verbs, word) ? verbs[word] : undefined
  if (verb) return verb
  const hint = Object.hasOwn(elsewhere, word) ? elsewhere[word] : undefined
  throw usage(`st has no verb ${word}`, hint ?? `write one of: ${Object.keys(verbs).join(', ')}`)
}

function checkCall({ options, positionals, rest, settings }: Context, verb: Verb): void {
  const name = positionals.verb
  for (const key of verbOptions) {
    const isGiven = settings.source(key) === 'flag' && options[key as keyof typeof options] !== false
    if (isGiven && !verb.options.includes(key))
      throw usage(`st ${name} does not take ${settings.describe(key).split('=', 1)[0]}`)
  }
  const args = name === 'put' && options.readStdin ? ['path'] : verb.args
  const needed = args.filter((arg) => !/[?…]$/.test(arg)).length
  const most = args.some((arg) => arg.endsWith('…')) ? Infinity : args.length
  if (rest.length < needed)
    throw usage(`st ${name}: ${(args[rest.length] ?? '').toUpperCase()} is missing`, callOf(name, args))
  if (rest.length > most) throw usage(`st ${name} takes no argument "${rest[most]}"`, callOf(name, args))
}

function callOf(name: string, args: readonly string[]): string {
  return `write walrx st ${[name, ...args.map((arg) => arg.replace('?', '').toUpperCase())].join(' ')}`
}

async function list(storage: Storage, [path = '']: readonly string[], context: Context): Promise<number> {
  const { options, signals, stdout } = context
  const { glob, json, recursive } = options
  const signal = { signal: signals.drain }
  const printer = new EntryPrinter(stdout, json)
  if (glob) {
    for await (const entry of matching(storage, path, signal)) {
      if (!recursive || entry.type === 'obj') await printer.print(entry)
      else
        for await (const { info } of objectsIn(storage, entry.name, signal))
          await printer.print({ type: 'obj', name: info.key, info })
    }
    await printer.end()
    return 0
  }
  const { isFolder, key } = parseObjectPath(path)
  const folder = key === '' ? '' : `${key}/`
  let count = 0
  for await (const entry of recursive ? listBelow(storage, folder, signal) : listFolder(storage, folder, signal)) {
    count++
    await printer.print(entry)
  }
  if (count === 0 && key !== '') {
    const info = isFolder ? undefined : await storage.head(key, signal)
    if (!info) throw missing(storage, `no object and no folder ${key}`)
    await printer.print({ type: 'obj', name: key, info })
  }
  await printer.end()
  return 0
}

/** What a pattern matches. Throws WALRX_USAGE for nothing: a mistyped pattern is no empty folder. */
async function* matching(storage: Storage, path: string, signal: StorageCallOptions) {
  const { key } = parseObjectPath(path)
  if (key === '') throw usage(`"${path}" is not a pattern`, "write one such as 'wal_005/*.history'")
  let count = 0
  for await (const entry of listMatching(storage, parsePattern(key), signal)) {
    count++
    yield entry
  }
  if (count === 0) throw missing(storage, `nothing that matches ${key}`)
}

async function* objectsIn(storage: Storage, folder: string, options: { readonly signal: AbortSignal }) {
  for await (const info of storage.list(folder, options)) yield { info }
}

async function show(storage: Storage, [path = '']: readonly string[], { options, signals, stdout }: Context) {
  const key = objectKeyOf(path)
  const info = await storage.head(key, { signal: signals.drain })
  if (!info) throw await missingObject(storage, key, signals.drain)
  const printer = new EntryPrinter(stdout, options.json)
  await printer.print({ type: 'obj', name: key, info })
  await printer.end()
  return 0
}

function reading({ options, signals }: Context, isDefault: boolean): AnyReading {
  const { decompress = isDefault, decrypt = isDefault } = options
  return { decompress, decrypt, signal: signals.drain }
}

/** The bytes of an object. Throws WALRX_USAGE where there is none. */
async function open(storage: Storage, key: string, options: AnyReading) {
  try {
    return await openAnyObject(storage, key, options)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) throw await missingObject(storage, key, options.signal, error)
    throw error
  }
}

async function get(storage: Storage, [path = '', file = '']: readonly string[], context: Context): Promise<number> {
  const key = objectKeyOf(path)
  if (file === '' || file === '-')
    throw usage(`"${file}" is not the name of a file`, 'name one; st cat prints an object')
  const isFolder = (await stat(file).catch(() => undefined))?.isDirectory() === true
  const target = isFolder ? join(file, basename(key)) : file
  const body = await open(storage, key, reading(context, true))
  const handle = await openFile(target, 'wx', 0o640).catch(async (error: NodeJS.ErrnoException) => {
    await body[Symbol.asyncIterator]().return?.()
    if (error.code !== 'EEXIST') throw error
    throw new WalrxError('WALRX_DESTINATION', `${target} is there already`, {
      hint: 'write another name, or remove it',
    })
  })
  try {
    await pipeline(body, handle.createWriteStream())
  } catch (error) {
    await unlink(target)
    throw error
  }
  return 0
}

async function cat(storage: Storage, [path = '']: readonly string[], context: Context): Promise<number> {
  const { options, signals, stdout } = context
  const print = async (key: string) =>
    pipeline(await open(storage, key, reading(context, false)), stdout, { end: false })
  if (!options.glob) await print(objectKeyOf(path))
  else {
    for await (const entry of matching(storage, path, { signal: signals.drain }))
      if (entry.type === 'obj') await print(entry.name)
  }
  return 0
}

async function put(storage: Storage, args: readonly string[], context: Context): Promise<number> {
  const { options, signals, stdin } = context
  const [file, path = ''] = options.readStdin ? [undefined, args[0]] : args
  const codec = options.compress ? openCodec(options) : undefined
  const asked = parseObjectPath(path)
  if (asked.isFolder && asked.key !== '' && file !== undefined)
    throw usage(`"${path}" is the path of a folder, and not of an object`, `write ${asked.key}/${basename(file)}`)
  const key = keyOfAny(objectKeyOf(path), codec)
  if (isTempName(key))
    throw usage(`"${path}" cannot be the path of an object: names that begin like this are unfinished files`)
  if (!options.overwrite) {
    if (isOfArchive(key)) {
      throw usage(
        `${key} lies where the archive keeps its own objects: nothing was stored`,
        'what is wrong there breaks restores; to store it all the same, add --force',
      )
    }
    if (await storage.head(key, { signal: signals.drain }))
      throw usage(`${key} is there already at ${storage.location}`, 'to replace it, add --force')
  }
  if (file !== undefined && (await stat(file)).isDirectory()) throw usage(`${file} is a directory`, 'name a file')
  const content = (file === undefined ? stdin : createReadStream(file)) as AsyncIterable<Uint8Array>
  await putAnyObject(storage, key, content, { codec, encrypt: options.encrypt, signal: signals.drain })
  context.log.info('stored', { key })
  return 0
}

async function remove(storage: Storage, [path = '']: readonly string[], context: Context): Promise<number> {
  const { options, signals, stdout } = context
  const { dryRun, glob, json, overwrite: force } = options
  const links = new LinkNotes(context.log)
  const onObject = dryRun && !json ? ({ key }: { key: string }) => void stdout.write(`${key}\n`) : () => {}
  const { isFolder, key } = parseObjectPath(path)
  if (key === '') {
    throw usage(
      `"${path}" is the root of the storage: nothing was removed`,
      'walrx delete everything removes an archive',
    )
  }
  const request = { path: isFolder ? `${key}/` : key, glob, force, dryRun }
  const call = { signal: signals.drain }
  const { bytes, objects } = await removeObjects(forDeletion(storage, links), request, onObject, call)
  reportVersions(storage, context.log)
  links.end()
  if (json) stdout.write(`${formatJson({ objects, bytes, removed: !dryRun })}\n`)
  else stdout.write(`${dryRun ? 'would remove' : 'removed'} ${counted(objects, 'object')}, ${humanSize(bytes)}\n`)
  return 0
}

async function check(storage: Storage, [what, ...paths]: readonly string[], context: Context): Promise<number> {
  const { signals, stdout } = context
  const options = { signal: signals.drain }
  if (what === 'write' && paths.length === 0) {
    await storage.probe(options)
    stdout.write('Write check OK\n')
    return 0
  }
  if (what !== 'read')
    throw usage(
      `st check takes no argument "${what === 'write' ? paths[0] : what}"`,
      'write st check read [PATH…], or st check write',
    )
  for await (const _ of storage.list('', { ...options, firstPageKeys: 1 })) break
  const absent: string[] = []
  for (const path of paths) if (!(await storage.head(objectKeyOf(path), options))) absent.push(path)
  if (absent.length > 0) throw missing(storage, `no object ${absent.join(', ')}`)
  stdout.write('Read check OK\n')
  return 0
}

/** @param what `no object x` */
function missing(storage: Storage, what: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_USAGE', `there is ${what} at ${storage.location}`, {
    hint: 'walrx st ls shows what is there',
    cause,
  })
}

/** The error for an object that is not there; a folder of that name is another mistake. */
async function missingObject(storage: Storage, key: string, signal: AbortSignal | undefined, cause?: unknown) {
  for await (const _ of storage.list(`${key}/`, { firstPageKeys: 1, ...(signal && { signal }) })) {
    return new WalrxError('WALRX_USAGE', `${key} is a folder at ${storage.location}, and not an object`, {
      hint: `walrx st ls ${key}/ shows what is in it`,
      cause,
    })
  }
  return missing(storage, `no object ${key}`, cause)
}

function usage(message: string, hint = 'see walrx st --help'): WalrxError {
  return new WalrxError('WALRX_USAGE', message, { hint })
}
