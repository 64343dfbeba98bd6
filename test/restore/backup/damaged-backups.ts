/**
 * Backups of a small real cluster, one for each codec, in memory; ways to damage them; and what verifying and fetching
 * make of them.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { failureStatus } from '../../../src/cli/exit-status.ts'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { silentLog } from '../../../src/observe/log.ts'
import { type ErrorCode, toWalrxError } from '../../../src/primitives/errors.ts'
import { readDocuments } from '../../../src/restore/backup/backup-documents.ts'
import { fetchBackup } from '../../../src/restore/backup/backup-fetch.ts'
import { readBackup } from '../../../src/restore/backup/backup-reader.ts'
import type { RestoredFile } from '../../../src/restore/backup/parts/restored-file.ts'
import { nowhere, type RestoreSink } from '../../../src/restore/backup/restore-sink.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { readObject } from '../../../src/storage/storage.ts'
import { BackupArchive } from '../../../src/walg/backup/backup-archive.ts'
import { backupFolder } from '../../../src/walg/backup/backup-names.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

/** The objects of an archive by key. A damaged one shares the bytes of its intact objects. */
export type Objects = Map<string, Buffer>

/** A backup, whole. */
export interface MadeBackup {
  readonly method: WriteMethod
  readonly name: string
  readonly objects: Objects
}

/** The codecs that walrx writes. */
export const methods = ['zstd', 'lz4', 'brotli', 'none'] as const satisfies readonly WriteMethod[]

/** Makes the backups. The cluster has 9 MB, no more than PostgreSQL needs, so that hundreds of trials are quick. */
export async function makeBackups(root: string): Promise<MadeBackup[]> {
  await using server = await startPostgres({ major: 17, dataChecksums: true })
  await server.sql('update pg_database set datistemplate = false')
  for (const each of ['template0', 'template1']) await server.sql(`drop database ${each}`)
  await server.sql(`create table t as select g as id, md5(g::text) as text from generate_series(1, 10000) g`)
  const backups: MadeBackup[] = []
  for (const method of methods) {
    const archive = join(root, method)
    await mkdir(archive)
    const place = ['--file-prefix', archive, '--dbname', server.conninfo()]
    // More than one part, and each with more than one block.
    const form = ['--compression-method', method, '--tar-size-threshold', '3MB', '--no-wait', '--json']
    const pushed = await runWalrx(['backup-push', ...place, ...form])
    if (pushed.status !== 0) throw new Error(pushed.stderr)
    const { backup_name: name } = JSON.parse(pushed.stdout) as { readonly backup_name: string }
    backups.push({ method, name, objects: await load(archive) })
  }
  return backups
}

async function load(archive: string): Promise<Objects> {
  const storage = new FileStorage({ folders: archiveFolders, root: archive })
  const objects: Objects = new Map()
  for await (const { key } of storage.list('basebackups_005/')) objects.set(key, await readObject(storage, key))
  return objects
}

/** Keys of a backup's tars. */
export function partsOf({ name, objects }: MadeBackup): string[] {
  return [...objects.keys()].filter((key) => key.startsWith(`${backupFolder(name)}tar_partitions/`))
}

/** The objects with one changed; undefined removes it. */
export function changed(objects: Objects, key: string, bytes: Buffer | undefined): Objects {
  const copy = new Map(objects)
  if (bytes) copy.set(key, bytes)
  else copy.delete(key)
  return copy
}

/** A copy with one bit turned over. */
export function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes)
  const at = bit >> 3
  copy[at] = (copy[at] ?? 0) ^ (1 << (bit & 7))
  return copy
}

/** Where the blocks of a zstd frame end (RFC 8878, 3.1.1.2), not counting the end of the frame itself. */
export function zstdBlockEnds(frame: Buffer): number[] {
  const descriptor = frame.readUInt8(4)
  const isSingle = (descriptor & 0x20) !== 0
  const sizeBytes = [isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0
  let at = 5 + (isSingle ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0) + sizeBytes
  const ends: number[] = []
  for (let isLast = false; !isLast;) {
    const header = frame.readUIntLE(at, 3)
    isLast = (header & 1) === 1
    at += 3 + (((header >> 1) & 3) === 1 ? 1 : header >> 3)
    ends.push(at)
  }
  return ends.filter((end) => end < frame.length)
}

/** Where the members of a plain tar begin, and which are regular files. The closing blocks are not among them. */
export function membersOf(tar: Buffer): { readonly at: number; readonly isFile: boolean }[] {
  const members: { readonly at: number; readonly isFile: boolean }[] = []
  let at = 0
  while (tar[at] !== 0) {
    members.push({ at, isFile: tar[at + 156] === 0x30 })
    const size = Number.parseInt(tar.toString('latin1', at + 124, at + 135), 8)
    at += 512 + Math.ceil(size / 512) * 512
  }
  return members
}

/** How a command would have ended. */
export interface Outcome {
  /** Undefined when it succeeded. */
  readonly code: ErrorCode | undefined
  readonly status: number
  readonly message: string
}

const signal = new AbortController().signal

function open(objects: Objects): MemoryStorage {
  const storage = new MemoryStorage({ chunkBytes: 256 * 1024 })
  for (const [key, bytes] of objects) storage.objects.set(key, { bytes, lastModifiedMs: 0 })
  return storage
}

/** A trial that takes longer hangs: the slowest takes a second. */
const hangMs = 30_000

async function outcomeOf(command: string, work: () => Promise<unknown>): Promise<Outcome> {
  const { promise: hanging, resolve } = Promise.withResolvers<Outcome>()
  const timer = setTimeout(() => resolve({ code: undefined, status: -1, message: 'it hangs' }), hangMs)
  const ending = work().then(
    (): Outcome => ({ code: undefined, status: 0, message: '' }),
    (error: unknown): Outcome => {
      const named = toWalrxError(error)
      return { code: named.code, status: failureStatus(command, named), message: named.message }
    },
  )
  const outcome = await Promise.race([ending, hanging])
  clearTimeout(timer)
  return outcome
}

/** What `walrx backup-verify` does. @param sink what it would be if something were written */
export function verify(objects: Objects, name: string, sink: RestoreSink = nowhere): Promise<Outcome> {
  const storage = open(objects)
  return outcomeOf('backup-verify', async () => {
    const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
    const rest = { log: silentLog, signal, concurrency: 2, onProgress: () => {}, beforeControl: async () => {} }
    await readBackup({ storage, documents, sink, ...rest })
  })
}

/** Summary of a restored directory that differs for any other one: modes, and checksums of the files. */
export class TreeDigest implements RestoreSink {
  readonly #lines = new Map<string, string>()

  get text(): string {
    return [...this.#lines]
      .sort()
      .map(([path, line]) => `${path} ${line}\n`)
      .join('')
  }

  async directory(path: string, mode: number): Promise<void> {
    await Promise.resolve()
    this.#lines.set(path, `directory ${mode.toString(8)}`)
  }

  async file(path: string, mode: number): Promise<RestoredFile> {
    await Promise.resolve()
    const hash = createHash('sha256')
    return {
      write: async (bytes) => void hash.update(bytes),
      finish: async () => void this.#lines.set(path, `file ${mode.toString(8)} ${hash.digest('hex')}`),
      drop: async () => {},
    }
  }

  change(path: string): Promise<never> {
    throw new Error(`${path} is changed: these are full backups`)
  }

  async sync(): Promise<void> {}
}

/** What `walrx backup-fetch` does. */
export function fetch(objects: Objects, name: string, destination: string): Promise<Outcome> {
  const storage = open(objects)
  return outcomeOf('backup-fetch', async () => {
    const documents = await readDocuments(storage, new BackupArchive(storage), name, signal)
    const rest = { log: silentLog, signal, concurrency: 2, onProgress: () => {}, writeSettings: async () => {} }
    await fetchBackup({ storage, documents, destination, tablespaces: [], fsync: false, ...rest })
  })
}

/** What is wrong with what a failed fetch left, if anything; removes it. */
export async function wrongLeftover(destination: string): Promise<string | undefined> {
  if (!existsSync(destination)) return undefined
  const isStartable = existsSync(join(destination, 'global/pg_control'))
  const isMarked = existsSync(join(destination, 'walrx_restore_incomplete'))
  await rm(destination, { recursive: true })
  return isStartable ? 'it left a pg_control' : isMarked ? undefined : 'it left no marker'
}
