/** What has to be known of a backup before it is read: its documents, and what can be told from them alone. */
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { type ManifestFile, readManifest } from '../postgres/backup-manifest.ts'
import { codecOfExtension } from '../compression/codecs.ts'
import { readObject, type Storage } from '../storage/storage.ts'
import type { BackupArchive, BackupPart } from '../walg/backup-archive.ts'
import { parseContents, type StoredObject } from '../walg/backup-contents.ts'
import { backupFolder, contentsKey, filesMetadataKey } from '../walg/backup-names.ts'
import { decoded } from '../walg/decoded.ts'
import type { FilesMetadata } from '../walg/files-metadata.ts'
import type { Sentinel } from '../walg/sentinel.ts'
import { blamingBackup, damaged, StoredSum } from './backup-damage.ts'

/** A full backup, ready to be read. */
export interface BackupDocuments {
  readonly name: string
  readonly sentinel: Sentinel
  readonly parts: readonly BackupPart[]
  /** Undefined where the writer left it out on purpose. */
  readonly filesMetadata: FilesMetadata | undefined
  /** By path; undefined where the backup has none: WAL-G and WAL-RUS keep none. */
  readonly manifest: ReadonlyMap<string, ManifestFile> | undefined
  /** The manifest's own bytes are read from here. */
  readonly manifestKey: string | undefined
  /** By name below the backup's folder; undefined where the backup is not walrx's. */
  readonly contents: ReadonlyMap<string, StoredObject> | undefined
}

/**
 * Reads them.
 * @throws WALRX_BACKUP_NOT_FOUND, WALRX_BACKUP_UNSUPPORTED for a delta, WALRX_BACKUP_DAMAGED when an object cannot be read,
 * or is missing that the others speak of
 */
export function readDocuments(
  storage: Storage,
  archive: BackupArchive,
  name: string,
  signal: AbortSignal,
): Promise<BackupDocuments> {
  return blamingBackup(() => readAll(storage, archive, name, signal))
}

async function readAll(
  storage: Storage,
  archive: BackupArchive,
  name: string,
  signal: AbortSignal,
): Promise<BackupDocuments> {
  const options = { signal }
  const sentinel = await archive.readSentinel(name, options)
  if (sentinel.delta) {
    throw new WalrxError('WALRX_BACKUP_UNSUPPORTED', `${name} is a delta of ${sentinel.delta.parentName}`, {
      hint: 'walrx cannot restore deltas yet: use WAL-G or WAL-RUS, or a full backup',
    })
  }
  const parts = await archive.listParts(name, options)
  const contents = await readContents(storage, name, signal)
  if (contents) refuseOtherObjects(storage, name, parts, contents)
  const found = await archive.readFilesMetadata(name, sentinel, options)
  if (found.kind === 'missing') {
    throw damaged(
      `${storage.location}/${filesMetadataKey(name)} is missing`,
      'without it nobody knows which files there must be',
    )
  }
  const filesMetadata = found.kind === 'found' ? found.metadata : undefined
  if (filesMetadata) refuseMissingParts(storage, name, parts, filesMetadata)
  if (!parts.some(({ kind }) => kind === 'control'))
    throw damaged(`${name} has no pg_control.tar at ${storage.location}`)
  if (!parts.some(({ kind }) => kind === 'data')) throw damaged(`${name} has no parts at ${storage.location}`)
  const manifest = await archive.findManifest(name, options)
  const stored = contents && storedManifest(storage, name, contents, manifest?.key)
  const manifestAt = `${storage.location}/${manifest?.key}`
  const sum = new StoredSum()
  const files =
    manifest &&
    (await readManifest(
      decoded(
        sum.of(await storage.get(manifest.key, options)),
        codecOfExtension(manifest.extension, manifest.key),
        manifestAt,
      ),
      manifestAt,
    ))
  if (stored) sum.check(stored, manifestAt)
  return { name, sentinel, parts, filesMetadata, contents, manifestKey: manifest?.key, manifest: files }
}

/** What walrx.json says of the manifest; undefined where there was none. Throws WALRX_BACKUP_DAMAGED. */
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
  if (key !== undefined && !stored) throw damaged(`${storage.location}/${key} does not belong to the backup`)
  return stored
}

async function readContents(
  storage: Storage,
  name: string,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, StoredObject> | undefined> {
  const key = contentsKey(name)
  try {
    return parseContents(await readObject(storage, key, { signal }), `${storage.location}/${key}`)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
    throw error
  }
}

/** By walrx's own list: every object there, with its size, and no other tar. */
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
    if (part.size !== size) throw damaged(`${at}${object} has ${part.size} bytes, and ${size} were stored`)
  }
  for (const object of there.keys()) {
    if (!contents.has(object))
      throw damaged(`${at}${object} does not belong to the backup`, 'remove it: every reader would unpack it')
  }
}

/** By the table of files: WAL-G names tars with their extension there, WAL-RUS without. */
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
