/**
 * A backup's `files_metadata.json`: which files it has and which part holds them (docs/walg-format.md, 2.4;
 * FilesMetadataDto in wal-g: internal/databases/postgres/backup_sentinel_dto.go). Over a gigabyte on large clusters,
 * more than a string of V8's can hold, so it is written and read as a stream.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { JsonMembers } from '../../primitives/json/json-members.ts'
import { isJsonObject, JsonDocument } from '../json-document.ts'

/** Blocks of a file that had wrong checksums when it was backed up. */
export interface CorruptBlocks {
  readonly count: number
  /** Numbers of some of them: WAL-G keeps ten. */
  readonly some: readonly number[]
}

/** One entry of `Files`. */
export interface FileRecord {
  /** The tar entry holds an increment, not the file. */
  readonly isIncremented: boolean
  /** There is no tar entry: the file is as in the parent. */
  readonly isSkipped: boolean
  /** RFC 3339 text; with a numeric offset or `Z`, down to nanoseconds. */
  readonly mtime: string
  readonly corruptBlocks?: CorruptBlocks | undefined
}

/** The whole document but WAL-G's DatabasesByNames, which only its partial restore reads. Keys are as tar entries are named. */
export interface FilesMetadata {
  readonly files: ReadonlyMap<string, FileRecord>
  /** Names of tar entries by part: WAL-G's keys are file names with the codec's extension, WAL-RUS's without. */
  readonly tarFileSets: ReadonlyMap<string, readonly string[]>
}

/** Characters that are encoded at once. */
const pieceCharacters = 64 * 1024

/** The document's bytes in pieces of about 64 KiB, for a streamed put. Empty tables are left out, as Go does. */
export async function* encodeFilesMetadata(metadata: FilesMetadata): AsyncGenerator<Uint8Array, undefined> {
  let text = ''
  for (const piece of pieces(metadata)) {
    text += piece
    if (text.length < pieceCharacters) continue
    // The reader of the stream waits for its storage here.
    yield await Promise.resolve(Buffer.from(text))
    text = ''
  }
  yield Buffer.from(text)
}

function* pieces({ files, tarFileSets }: FilesMetadata): Generator<string, undefined> {
  let before = '{"Files":{'
  for (const [name, record] of files) {
    yield `${before}${JSON.stringify(name)}:${formatRecord(record)}`
    before = ','
  }
  if (files.size > 0) yield '}'
  before = `${files.size > 0 ? ',' : '{'}"TarFileSets":{`
  for (const [part, names] of tarFileSets) {
    yield `${before}${JSON.stringify(part)}:[`
    before = ','
    let comma = ''
    for (const name of names) {
      yield comma + JSON.stringify(name)
      comma = ','
    }
    yield ']'
  }
  if (tarFileSets.size > 0) yield '}}'
  else yield files.size > 0 ? '}' : '{}'
}

function formatRecord({ isIncremented, isSkipped, mtime, corruptBlocks }: FileRecord): string {
  return formatJson({
    IsIncremented: isIncremented,
    IsSkipped: isSkipped,
    MTime: mtime,
    ...(corruptBlocks && {
      CorruptBlocks: { CorruptBlocksCount: corruptBlocks.count, SomeCorruptBlocks: corruptBlocks.some },
    }),
    UpdatesCount: 0,
  })
}

/**
 * Reads the document. Besides what it returns it keeps one entry in memory, or the names of one part.
 * @param key of the object, for messages
 * @throws WALRX_OBJECT_DAMAGED for anything that is not such a document, or ends too early; what the source throws
 */
export async function decodeFilesMetadata(source: AsyncIterable<Uint8Array>, key: string): Promise<FilesMetadata> {
  const files = new Map<string, FileRecord>()
  const tarFileSets = new Map<string, readonly string[]>()
  const members = new JsonMembers(({ key: file, name, value }) => {
    if (file === undefined || (name !== 'Files' && name !== 'TarFileSets')) return
    if (typeof file !== 'string') throw damaged(key, `${name} is a list`)
    if (name === 'Files') files.set(file, readRecord(value as JsonValue, file, key))
    else tarFileSets.set(file, readNames(value as JsonValue, file, key))
  })
  let isEmpty = true
  for await (const chunk of source) {
    isEmpty = false
    explained(() => members.write(chunk), key)
  }
  if (isEmpty) throw damaged(key, 'it is empty')
  explained(() => members.end(), key)
  return { files, tarFileSets }
}

/** The embedded form of old sentinels: the same keys among the sentinel's own. Undefined where there are none. */
export function embeddedFilesMetadata(
  fields: { readonly [key: string]: JsonValue },
  key: string,
): FilesMetadata | undefined {
  const { Files: listed, TarFileSets: sets } = fields
  if (!isJsonObject(listed)) return undefined
  return {
    files: new Map(Object.entries(listed).map(([name, value]) => [name, readRecord(value, name, key)])),
    tarFileSets: new Map(
      isJsonObject(sets) ? Object.entries(sets).map(([part, value]) => [part, readNames(value, part, key)]) : [],
    ),
  }
}

function readRecord(value: JsonValue, name: string, key: string): FileRecord {
  const fields = new JsonDocument(value, `${key}: Files["${name}"]`)
  const record = {
    isIncremented: fields.flag('IsIncremented'),
    isSkipped: fields.flag('IsSkipped'),
    mtime: fields.text('MTime') ?? '',
  }
  const corrupt = fields.take('CorruptBlocks')
  if (!isJsonObject(corrupt)) return record
  const blocks = new JsonDocument(corrupt, `${key}: Files["${name}"].CorruptBlocks`)
  const some = blocks.take('SomeCorruptBlocks')
  const numbers = Array.isArray(some) ? (some as readonly JsonValue[]).filter((each) => typeof each === 'number') : []
  return { ...record, corruptBlocks: { count: blocks.count('CorruptBlocksCount') ?? numbers.length, some: numbers } }
}

function readNames(value: JsonValue, part: string, key: string): readonly string[] {
  if (value === null) return []
  const isNames = Array.isArray(value) && (value as readonly JsonValue[]).every((name) => typeof name === 'string')
  if (!isNames) throw damaged(key, `TarFileSets["${part}"] is not a list of names`)
  return value as readonly string[]
}

/** The parser's complaints, but not our own, are about the object. */
function explained(step: () => void, key: string): void {
  try {
    step()
  } catch (error) {
    if (error instanceof WalrxError) throw error
    throw damaged(key, (error as Error).message, error)
  }
}

function damaged(key: string, detail: string, cause?: unknown): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', `${key} is not a list of a backup's files: ${detail}`, { cause })
}
