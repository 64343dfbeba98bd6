/**
 * The documents of a backup, read and checked before any part is: what is missing or does not fit shows here already.
 */
import { isOfKey, WalrxError } from '../../primitives/errors.ts'
import { type ManifestFile, readManifest } from '../../postgres/backup/backup-manifest.ts'
import { incrementedPath } from '../../postgres/relations/relation-file.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import type { BackupArchive, BackupPart } from '../../walg/backup/backup-archive.ts'
import {
  type BackupContents,
  type BackupTree,
  type LeftOut,
  nothingLeftOut,
} from '../../walg/backup/backup-contents.ts'
import { backupFolder, filesMetadataKey } from '../../walg/backup/backup-names.ts'
import type { StoredObject } from '../../walg/stored/object-sum.ts'
import type { StoredName } from '../../walg/stored/stored-form.ts'
import { openObject } from '../../walg/stored/stored-reader.ts'
import type { FilesMetadata } from '../../walg/backup/files-metadata.ts'
import type { Sentinel } from '../../walg/backup/sentinel.ts'
import {
  type FileTable,
  filesOfFull,
  type NamedSentinel,
  readChainOfSentinels,
  stepOfDelta,
  tableByPath,
} from './backup-chain.ts'
import { blamingBackup, damaged, StoredSum } from './backup-damage.ts'

/** A backup that is ready to be read. */
export interface BackupDocuments {
  readonly name: string
  readonly sentinel: Sentinel
  readonly parts: readonly BackupPart[]
  /** Files to restore from its parts, by path; undefined restores every file in them. */
  readonly files: FileTable | undefined
  /** Names of tar entries by part; empty where the writer left files_metadata.json out on purpose. */
  readonly tarFileSets: FilesMetadata['tarFileSets']
  /**
   * By path; undefined where the backup has no manifest: WAL-G and WAL-RUS store none. A delta's manifest is without
   * the files that are stored in another form than the server sent: increments, and backup_label.
   */
  readonly manifest: ReadonlyMap<string, ManifestFile> | undefined
  /** The server's increments in a delta, as its manifest lists them, by the paths of the files that they are of. */
  readonly increments: ReadonlyMap<string, ManifestFile>
  /** Key of the manifest. */
  readonly manifestKey: string | undefined
  /** By name below the backup's folder; undefined where walrx did not take the backup. */
  readonly contents: ReadonlyMap<string, StoredObject> | undefined
  /** What the server had and the backup does not have, as far as walrx.json says. */
  readonly leftOut: LeftOut
  /** Its directories and modes; undefined where its writer stored no list of them. */
  readonly tree: BackupTree | undefined
  /** The backups that a delta builds on, the full one first; empty for a full backup. */
  readonly parents: readonly BackupDocuments[]
}

/**
 * Reads the documents of a backup, and of all backups that it builds on. Afterwards it is known that the keys open each of
 * them: what they don't open of it then is damaged.
 * @throws WALRX_BACKUP_NOT_FOUND; WALRX_BACKUP_DAMAGED when an object cannot be read, or when an object is missing that
 * another one lists; WALRX_BACKUP_UNSUPPORTED for a delta without files_metadata.json; WALRX_KEY_WRONG, WALRX_KEY_MISSING
 */
export function readDocuments(
  storage: Storage,
  archive: BackupArchive,
  name: string,
  signal: AbortSignal,
): Promise<BackupDocuments> {
  return blamingBackup(async () => {
    const chain = await readChainOfSentinels(archive, name, { signal })
    const parents: BackupDocuments[] = []
    let above: BackupDocuments | undefined
    /** The files that the backup above needs from the one that is being read. */
    let wanted: ReadonlySet<string> | undefined
    for (const each of chain) {
      const { below, documents } = await readOne(storage, archive, each, wanted, signal)
      if (above) parents.unshift(documents)
      above ??= documents
      wanted = below
    }
    return { ...(above as BackupDocuments), parents }
  })
}

/** A backup and all backups that it builds on, the full one first. */
export function chainOf(documents: BackupDocuments): readonly BackupDocuments[] {
  return [...documents.parents, documents]
}

interface OneOfChain {
  readonly documents: BackupDocuments
  /** The files that it needs from the backup below. */
  readonly below: ReadonlySet<string>
}

async function readOne(
  storage: Storage,
  archive: BackupArchive,
  { name, sentinel }: NamedSentinel,
  wanted: ReadonlySet<string> | undefined,
  signal: AbortSignal,
): Promise<OneOfChain> {
  const options = { signal }
  const parts = await archive.listParts(name, options)
  const { leftOut, objects: contents, tree } = (await readContents(archive, name, parts, options)) ?? {}
  if (contents) refuseOtherObjects(storage, name, parts, contents)
  const metadata = await readFilesMetadata(storage, archive, { name, sentinel }, options)
  if (metadata) refuseMissingParts(storage, name, parts, metadata)
  if (!parts.some(({ kind }) => kind === 'control'))
    throw damaged(`${name} has no pg_control.tar at ${storage.location}`, chooseBackup)
  if (!parts.some(({ kind }) => kind === 'data'))
    throw damaged(`${name} has no parts at ${storage.location}`, chooseBackup)
  if (!contents) await archive.checkKeys(parts, options)
  const { files, below } = takenFiles({ name, sentinel }, metadata, wanted)
  const manifest = await archive.findManifest(name, options)
  const stored = contents && storedManifest(storage, name, contents, manifest?.key)
  const manifestAt = `${storage.location}/${manifest?.key}`
  const sum = new StoredSum()
  const onStored = (chunk: Uint8Array) => sum.add(chunk)
  const open = async (object: StoredName) => (await openObject(storage, object, { ...options, onStored })).body
  const listed = manifest && (await readManifest(await open(manifest), manifestAt).catch(asDamage))
  if (stored) sum.check(stored, manifestAt)
  const tarFileSets: FilesMetadata['tarFileSets'] = metadata?.tarFileSets ?? new Map<string, string[]>()
  const manifestOfFiles = listed && sentinel.delta ? unconverted(listed) : listed
  const increments = listed && sentinel.delta ? incrementsOf(listed) : new Map<string, ManifestFile>()
  const known = { name, sentinel, parts, files, tarFileSets, contents, leftOut: leftOut ?? nothingLeftOut, tree }
  const documents = { ...known, increments, manifestKey: manifest?.key, parents: [] }
  return { documents: { ...documents, manifest: manifestOfFiles }, below }
}

async function readContents(
  archive: BackupArchive,
  name: string,
  parts: readonly BackupPart[],
  options: StorageCallOptions,
): Promise<BackupContents | undefined> {
  try {
    return await archive.readContents(name, options)
  } catch (error) {
    if (isOfKey(error)) await archive.checkKeys(parts, options)
    return asDamage(error)
  }
}

/** Of what the keys don't open in a backup that they do open. */
function asDamage(error: unknown): never {
  throw isOfKey(error) ? damaged(error.message, undefined, error) : error
}

const chooseBackup = 'this backup cannot be restored: choose another one'

/** Undefined where the writer left it out on purpose. Throws WALRX_BACKUP_DAMAGED where it is missing. */
async function readFilesMetadata(
  storage: Storage,
  archive: BackupArchive,
  { name, sentinel }: NamedSentinel,
  options: StorageCallOptions,
): Promise<FilesMetadata | undefined> {
  const found = await archive.readFilesMetadata(name, sentinel, options)
  if (found.kind === 'found') return found.metadata
  const at = `${storage.location}/${filesMetadataKey(name)}`
  if (found.kind === 'missing')
    throw damaged(`${at} is missing`, `it lists the backup's files: without it, ${chooseBackup}`)
  if (!sentinel.delta) return undefined
  throw new WalrxError('WALRX_BACKUP_UNSUPPORTED', `${name} is a delta that was taken without files_metadata.json`, {
    hint: 'only files_metadata.json shows which files are increments: choose another backup',
  })
}

/** The files to restore from a backup, and the files that it needs from the one below. */
function takenFiles(
  { name, sentinel }: NamedSentinel,
  metadata: FilesMetadata | undefined,
  wanted: ReadonlySet<string> | undefined,
): { readonly files: FileTable | undefined; readonly below: ReadonlySet<string> } {
  const table = metadata && tableByPath(name, metadata.files)
  if (sentinel.delta) {
    if (!table || table.size === 0) throw damaged(`${name} is a delta, but its files_metadata.json lists no file`)
    return stepOfDelta(name, table, wanted)
  }
  return { files: filesOfFull(name, table && table.size > 0 ? table : undefined, wanted), below: new Set() }
}

/** The files that a delta stores as the server sent them. The server sends increments as `INCREMENTAL.<file>`. */
function unconverted(manifest: ReadonlyMap<string, ManifestFile>): ReadonlyMap<string, ManifestFile> {
  const isConverted = (path: string) => path === 'backup_label' || /(^|\/)INCREMENTAL\.[^/]*$/.test(path)
  return new Map([...manifest].filter(([path]) => !isConverted(path)))
}

function incrementsOf(manifest: ReadonlyMap<string, ManifestFile>): ReadonlyMap<string, ManifestFile> {
  const increments = new Map<string, ManifestFile>()
  for (const [sentAs, file] of manifest) {
    const path = incrementedPath(sentAs)
    if (path !== undefined) increments.set(path, file)
  }
  return increments
}

/** The manifest's entry in walrx.json; undefined where there is no manifest. Throws WALRX_BACKUP_DAMAGED. */
function storedManifest(
  storage: Storage,
  name: string,
  contents: ReadonlyMap<string, StoredObject>,
  key: string | undefined,
): StoredObject | undefined {
  const at = `${storage.location}/${backupFolder(name)}`
  for (const object of contents.keys()) {
    const isThere = object.startsWith('tar_partitions/') || key === backupFolder(name) + object
    if (!isThere) throw damaged(`${at}${object} is missing`)
  }
  const stored = key === undefined ? undefined : contents.get(key.slice(backupFolder(name).length))
  if (key !== undefined && !stored) throw damaged(`${storage.location}/${key} is not listed in the backup's walrx.json`)
  return stored
}

/** Checks the parts against walrx.json: every part is there, with its size, and no other part. */
function refuseOtherObjects(
  storage: Storage,
  name: string,
  parts: readonly BackupPart[],
  contents: ReadonlyMap<string, StoredObject>,
): void {
  const at = `${storage.location}/${backupFolder(name)}`
  const there = new Map(parts.map((part) => [part.key.slice(backupFolder(name).length), part]))
  for (const { name: object, size } of contents.values()) {
    if (!object.startsWith('tar_partitions/')) continue
    const part = there.get(object)
    if (!part) throw damaged(`${at}${object} is missing`)
    if (part.size !== size) throw damaged(`${at}${object} has ${part.size} bytes instead of ${size}`)
  }
  for (const object of there.keys()) {
    if (!contents.has(object))
      throw damaged(
        `${at}${object} is not listed in the backup's walrx.json`,
        'remove the object: WAL-G and WAL-RUS would restore it as a part',
      )
  }
}

/** Checks the parts against files_metadata.json: WAL-G names parts with their extension there, WAL-RUS without. */
function refuseMissingParts(
  storage: Storage,
  name: string,
  parts: readonly BackupPart[],
  { tarFileSets }: FilesMetadata,
): void {
  const names = new Set(parts.flatMap(({ base, fileName }) => [fileName, base, `${base}.tar`]))
  for (const [fileName, files] of tarFileSets) {
    if (files.length === 0 || names.has(fileName)) continue
    throw damaged(`${storage.location}/${backupFolder(name)}tar_partitions/${fileName} is missing`)
  }
}
