/** Everything that the archive says of one backup. */
import { hasCode, isOfKey, type WalrxError } from '../primitives/errors.ts'
import type { JsonValue } from '../primitives/json/json.ts'
import type { ObjectInfo, StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive, BackupPart, FoundFilesMetadata, ListedBackup } from '../walg/backup/backup-archive.ts'
import { type LeftOut, nothingLeftOut } from '../walg/backup/backup-contents.ts'
import { parseBackupName } from '../walg/backup/backup-names.ts'
import { JsonDocument } from '../walg/json-document.ts'
import { listInOrder } from './backup-order.ts'
import { type BackupDetail, readDetail } from './backups.ts'
import { type BackupChain, followChain, type LinkedBackup, linkOf, problemOfChain } from './chains.ts'
import { mapInParallel } from './map-in-parallel.ts'

/** See the file's header. */
export interface BackupDescription {
  readonly detail: BackupDetail
  readonly isLatest: boolean
  /** The sentinel as it was written, keys that walrx doesn't know included; undefined where it is no JSON. */
  readonly sentinelJson: JsonValue | undefined
  readonly parts: readonly BackupPart[]
  /** The server's own manifest. */
  readonly manifest: ObjectInfo | undefined
  /** What it builds on. */
  readonly chain: BackupChain
  /** Names of the deltas that build on it directly. */
  readonly children: readonly string[]
  /** What the server had and the backup does not have. */
  readonly leftOut: LeftOut
  /** Only where it was asked for, and can be read. */
  readonly files: FoundFilesMetadata | undefined
  /** Documents that cannot be read. */
  readonly problems: readonly WalrxError[]
}

/** Options of {@link describeBackup}. */
export interface DescribeOptions extends StorageCallOptions {
  /** True reads the table of files, which may be huge. */
  readonly withFiles: boolean
}

/** Reads what there is. A damaged document is no failure, but a problem. */
export async function describeBackup(
  archive: BackupArchive,
  backup: ListedBackup,
  options: DescribeOptions,
): Promise<BackupDescription> {
  const { name } = backup
  const inOrder = await listInOrder(archive, options)
  const detail = await readDetail(archive, backup, options)
  const problems = [...detail.problems]
  const links = new Map((await readLinks(archive, inOrder, options)).map((link) => [link.name, link]))
  return {
    detail,
    isLatest: inOrder.at(-1)?.name === name,
    sentinelJson: await readSentinelJson(archive, name, options),
    parts: await archive.listParts(name, options),
    manifest: await archive.findManifest(name, options),
    chain: await chainOf(archive, name, links, options),
    children: [...links.values()].filter(({ parentName }) => parentName === name).map((link) => link.name),
    leftOut: await readLeftOut(archive, name, problems, options),
    files: options.withFiles ? await readFiles(archive, detail, problems, options) : undefined,
    problems,
  }
}

async function readSentinelJson(
  archive: BackupArchive,
  name: string,
  options: StorageCallOptions,
): Promise<JsonValue | undefined> {
  const bytes = await archive.readSentinelBytes(name, options)
  try {
    return JsonDocument.parse(bytes, name).rest()
  } catch {
    // The details have it among their problems already.
    return undefined
  }
}

/** Every tool writes `_D_` into the name of a delta: the sentinels of full backups need not be read. */
async function readLinks(
  archive: BackupArchive,
  backups: readonly ListedBackup[],
  options: StorageCallOptions,
): Promise<LinkedBackup[]> {
  return mapInParallel(backups, async (backup) => {
    const isFull = parseBackupName(backup.name)?.deltaSuffix === undefined
    if (isFull) return { name: backup.name, parentName: undefined, isParentKnown: true }
    return linkOf(await readDetail(archive, backup, options))
  })
}

/** The chain, with what one of its backups lacks. */
async function chainOf(
  archive: BackupArchive,
  name: string,
  links: ReadonlyMap<string, LinkedBackup>,
  options: StorageCallOptions,
): Promise<BackupChain> {
  const { names, problem } = followChain(name, links)
  return { names, problem: problem ?? (await problemOfChain(archive, name, options)) }
}

async function readLeftOut(
  archive: BackupArchive,
  name: string,
  problems: WalrxError[],
  options: StorageCallOptions,
): Promise<LeftOut> {
  try {
    return (await archive.readContents(name, options))?.leftOut ?? nothingLeftOut
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED') && !isOfKey(error)) throw error
    problems.push(error)
    return nothingLeftOut
  }
}

async function readFiles(
  archive: BackupArchive,
  { name, sentinel }: BackupDetail,
  problems: WalrxError[],
  options: StorageCallOptions,
): Promise<FoundFilesMetadata | undefined> {
  if (!sentinel) return undefined
  try {
    return await archive.readFilesMetadata(name, sentinel, options)
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
    problems.push(error)
    return undefined
  }
}
