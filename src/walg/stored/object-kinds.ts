/**
 * The kinds of objects that an archive holds, and in which form each is stored (docs/walg-format.md, 1.2, 1.4, 4): one table,
 * by which the reader and the writer of stored objects know what to do with a key.
 */
import { WalrxError } from '../../primitives/errors.ts'
import type { WalFileKind } from '../../postgres/wal/wal-file.ts'
import {
  backupObjects,
  basebackupsFolder,
  deletedFolder,
  deletionKey,
  divergedFolder,
  gapFolder,
  intentsPrefix,
  parseTailKey,
  parseWalKey,
  sentinelOrderKey,
  sentinelSuffix,
  systemKey,
  tailFolder,
  verifiedFolder,
  walFolder,
} from '../names.ts'

/** In which form the objects of a kind are stored. */
export interface StoredForm {
  /** By the codec of the key's extension; else as they are. */
  readonly compressed: boolean
  /** Encrypted by a writer that has a key: WAL-G and WAL-RUS; in walrx's own objects, walrx. Everybody can read the rest. */
  readonly encrypted: boolean
  /** The most that one decodes to where it is read whole into memory, in bytes; 0 for kinds that are only streamed. */
  readonly wholeBytesMax: number
}

const mebi = 1024 * 1024
/** wal_segment_size is 1 GB at most. */
const walBytesMax = 1024 * mebi
/** Longer than any: a server's own limit is far below. */
const textBytesMax = 64 * mebi
/** What V8 can hold in a string, which every document becomes. WAL-E's sentinels name all files of a backup. */
const documentBytesMax = 512 * mebi

const wal: StoredForm = { compressed: true, encrypted: true, wholeBytesMax: walBytesMax }
const walText: StoredForm = { ...wal, wholeBytesMax: textBytesMax }
const streamed: StoredForm = { ...wal, wholeBytesMax: 0 }
const openDocument: StoredForm = { compressed: false, encrypted: false, wholeBytesMax: documentBytesMax }

/** The table. The kinds of WAL files have PostgreSQL's names of them. */
export const objectKinds = {
  segment: wal,
  partial: wal,
  history: walText,
  /** A backup history file, as an archive_command gets it. */
  backup: walText,
  /** Blocks that changed in sixteen segments: WAL-G's, for its own deltas. */
  'delta map': streamed,
  /** When a segment was archived: WAL-G's. */
  'wal metadata': openDocument,
  'tail chunk': wal,
  part: streamed,
  manifest: streamed,
  /** walrx.json has the size of every object, and a checksum: it is encrypted with what it speaks of. */
  contents: { ...openDocument, encrypted: true },
  sentinel: openDocument,
  metadata: openDocument,
  'files metadata': { ...openDocument, wholeBytesMax: 0 },
  system: openDocument,
  gap: openDocument,
  intent: openDocument,
  'sentinel order': openDocument,
  /** Which backups a deletion removes. */
  deletion: openDocument,
  /** A sentinel that a deletion has removed, until the rest of its backup is gone. */
  'deleted sentinel': openDocument,
  verification: openDocument,
} as const satisfies Record<WalFileKind, StoredForm> & Record<string, StoredForm>

/** A kind of objects. */
export type ObjectKind = keyof typeof objectKinds

/** The kind of an object; undefined for what neither WAL-G nor WAL-RUS nor walrx writes, or nobody reads any more. */
export function kindOf(key: string): ObjectKind | undefined {
  if (key.startsWith(walFolder)) return kindOfWal(key)
  if (key.startsWith(basebackupsFolder)) return kindOfBackups(key.slice(basebackupsFolder.length))
  if (key.startsWith(tailFolder)) return parseTailKey(key) && 'tail chunk'
  if (key.startsWith(divergedFolder)) return 'partial'
  if (key.startsWith(gapFolder)) return 'gap'
  if (key.startsWith(intentsPrefix)) return 'intent'
  if (key.startsWith(verifiedFolder)) return 'verification'
  if (key.startsWith(deletedFolder)) return 'deleted sentinel'
  if (key === systemKey) return 'system'
  if (key === deletionKey) return 'deletion'
  return key === sentinelOrderKey ? 'sentinel order' : undefined
}

function kindOfWal(key: string): ObjectKind | undefined {
  const name = key.slice(walFolder.length)
  if (/^[0-9A-F]{24}_delta(\.[a-z0-9]*)?$/.test(name)) return 'delta map'
  if (/^[0-9A-F]{23,24}\.json$/.test(name)) return 'wal metadata'
  return parseWalKey(key)?.kind
}

/** @param rest of the key, below the folder of all backups */
function kindOfBackups(rest: string): ObjectKind | undefined {
  const slash = rest.indexOf('/')
  if (slash < 0) return rest.endsWith(sentinelSuffix) ? 'sentinel' : undefined
  const name = rest.slice(slash + 1)
  if (name.startsWith(backupObjects.parts)) return 'part'
  if (name === backupObjects.metadata) return 'metadata'
  if (name === backupObjects.filesMetadata) return 'files metadata'
  if (name === backupObjects.contents) return 'contents'
  const isManifest = name === backupObjects.manifest || name.startsWith(`${backupObjects.manifest}.`)
  return isManifest && !name.includes('/') ? 'manifest' : undefined
}

/**
 * The form in which an object is read. Of what has no kind it is what WAL-G does with any WAL file: it asks for it by the
 * name that it is given, and decodes what it finds.
 */
export function formOf(key: string): StoredForm {
  const kind = kindOf(key)
  return kind === undefined ? streamed : objectKinds[kind]
}

/**
 * The form in which an object is written.
 * @param compressed whether who writes it compresses it
 * @throws WALRX_INTERNAL for a key that has no kind, or a kind that is not stored like that: nobody could read it
 */
export function checkForm(key: string, compressed: boolean): StoredForm {
  const kind = kindOf(key)
  const form = kind && objectKinds[kind]
  if (form?.compressed === compressed) return form
  const is = kind === undefined ? 'is of no kind that an archive holds' : `is a ${kind}`
  const how = compressed ? 'compressed' : 'as it is'
  throw new WalrxError('WALRX_INTERNAL', `${key} ${is}, and is about to be stored or read ${how}`)
}
