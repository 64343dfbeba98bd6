/** What a recovery through walrx needs: a cluster's copy, an archive of everything that came after, and a restore_command. */
import assert from 'node:assert/strict'
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { extensions, openWriteCodec } from '../../../src/compression/codecs.ts'
import { isSegmentName } from '../../../src/postgres/wal/wal-file.ts'
import { restoreCommand } from '../../../src/restore/wal/restore-command.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { encodeSlack } from '../../../src/walg/stored/stored-form.ts'
import { copyTree } from '../postgres/postgres-files.ts'
import { copyDataDir, type DataDirCopy, removeCopy } from '../postgres/postgres-copies.ts'
import { type PgMajor, startPostgres } from '../postgres/postgres.ts'
import { generateWal } from '../made/wal-load.ts'
import { newServerDirectory } from './test-workspace.ts'

const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

/** See {@link makeRecoveryWorld}. */
export interface RecoveryWorld {
  /** Directory of the archive. */
  readonly archive: string
  /** Names of the archived segments, in order. */
  readonly segments: readonly string[]
  /** Rows that the table `t` has at the last archived record. */
  readonly rows: number
  /** A new copy of the data directory, as it was before all that. */
  copy(): Promise<DataDirCopy>
  /**
   * The printed restore_command, with a program that keeps a record of its calls.
   * @param before shell text that runs ahead of it for every file
   */
  command(flags?: readonly string[], before?: string): string
  /** Calls of `walrx wal-fetch` so far, each as its arguments. */
  calls(): Promise<string[]>
  close(): Promise<void>
}

/**
 * Makes a cluster with segments of 1 MB, copies it, writes more WAL and archives it in this codec. Everyone may read and
 * change the archive, because the server runs as another user where the tests run as root.
 */
export async function makeRecoveryWorld(
  major: PgMajor,
  method: WriteMethod,
  segmentCount: number,
  settings: Readonly<Record<string, string>> = {},
): Promise<RecoveryWorld> {
  const root = newServerDirectory(`world${major}`)
  const archive = join(root, 'archive')
  await mkdir(archive, { recursive: true })
  await using server = await startPostgres({ major, segmentSizeMb: 1, settings: { wal_keep_size: '1GB', ...settings } })
  await server.sql('create table t (id int)')
  const base = await copyDataDir(server, false)
  const half = Math.floor(segmentCount / 2)
  await generateWal(server, { segments: half, fill: 'full' })
  await server.sql('insert into t select generate_series(1, 1000)')
  await generateWal(server, { segments: segmentCount - half })
  await server.sql('insert into t select generate_series(1001, 1234)')
  await server.switchWal()
  const [row] = await server.sql<{ file: string }>('select pg_walfile_name(pg_current_wal_insert_lsn()) as file')
  const segments = (await readdir(server.pgWal())).filter((name) => isSegmentName(name) && name < (row?.file ?? ''))
  await archiveSegments(server.pgWal(), segments.sort(), archive, method)
  const program = await installProgram(root)
  const calls = join(root, 'calls')
  return {
    archive,
    segments,
    rows: 1234,
    async copy() {
      const directory = newServerDirectory(`copy${major}`)
      await copyTree(base.directory, directory)
      return { major, directory, dataDir: join(directory, 'data') }
    },
    command: (flags = [], before = '') =>
      before + restoreCommand([program], [`--file-prefix=${archive}`, `--compression-method=${method}`, ...flags]),
    calls: async () => (await readFile(calls, 'utf8')).trimEnd().split('\n'),
    close: () => removeCopy(base),
  }
}

async function archiveSegments(
  pgWal: string,
  names: readonly string[],
  root: string,
  method: WriteMethod,
): Promise<void> {
  const archive = new WalArchive(
    new FileStorage({ folders: archiveFolders, root, fsync: false }),
    openWriteCodec(method),
  )
  for (const name of names) {
    const raw = await readFile(join(pgWal, name))
    const buffer = Buffer.alloc(raw.length + encodeSlack(raw.length))
    raw.copy(buffer)
    const length = await archive.encodeInPlace(buffer, raw.length)
    assert.equal(await archive.archive(name, buffer.subarray(0, length)), 'created')
  }
  for (const directory of [join(root, '..'), root, join(root, 'wal_005')]) await chmod(directory, 0o777)
}

/** A program that stands for walrx: it writes down its arguments and becomes walrx. */
async function installProgram(root: string): Promise<string> {
  const program = join(root, 'walrx')
  const calls = join(root, 'calls')
  await writeFile(calls, '', { mode: 0o666 })
  await chmod(calls, 0o666)
  await writeFile(program, `#!/bin/sh\necho "$*" >>"${calls}"\nexec "${process.execPath}" "${main}" "$@"\n`)
  await chmod(program, 0o755)
  return program
}

/** Path of an archived segment. */
export function archivedPath(archive: string, name: string, method: WriteMethod): string {
  const extension = extensions[method]
  return join(archive, 'wal_005', extension === '' ? name : `${name}.${extension}`)
}
