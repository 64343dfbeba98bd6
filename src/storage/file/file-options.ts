/** The options of a storage in a directory. */
import type { Keyring } from '../../crypto/keyring.ts'
import type { Clock } from '../../primitives/clock.ts'
import type { DeletionLinks, StorageFolders } from '../storage.ts'
import type { FileSystem } from './file-system.ts'

/** Options of FileStorage. */
export interface FileStorageOptions {
  /** The directory, which must exist. */
  readonly root: string
  /** Folder of the archive in the directory, created when needed; `/` at both ends is dropped. Default none. */
  readonly prefix?: string | undefined
  /** The folders that a probe needs by name. */
  readonly folders: StorageFolders
  /** See {@link Storage.keyring}. Default none. */
  readonly keyring?: Keyring | undefined
  /** False leaves out every fsync: a power failure may then lose finished puts. Default true. */
  readonly fsync?: boolean
  /** Default the real clock. */
  readonly clock?: Clock
  /** Default node:fs/promises. */
  readonly fileSystem?: FileSystem
  /** Bytes of the names of one directory that a listing holds at a time. Default 32 MB. */
  readonly listNameBytes?: number
  /** See {@link Storage.forDeletion}. Default none. */
  readonly deletion?: DeletionLinks
}
