/**
 * The cluster that every contender backs up: an embedded PostgreSQL 17 with pgbench's tables and nothing going on. It
 * is kept in the work directory for the next run. Its pages have no checksums, so that the server verifies none for
 * anybody: not every contender asks for it.
 */
import { readdir, stat } from 'node:fs/promises'
import { access, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { clusterTemplate, copyTree, makeServerDirectory } from '../test/harness/postgres/postgres-files.ts'
import { openAndStart, type TestPostgres } from '../test/harness/postgres/postgres.ts'
import { initPgbench } from './pgbench-wal.ts'
import { serverOptions } from './prepared-server.ts'
import type { WorkDirectory } from './work-directory.ts'

/** A prepared cluster with a running server. */
export class PreparedCluster implements AsyncDisposable {
  readonly server: TestPostgres
  /** Bytes of all files below `base`. */
  readonly dataBytes: number

  private constructor(server: TestPostgres, dataBytes: number) {
    this.server = server
    this.dataBytes = dataBytes
  }

  /**
   * Starts the cluster of the last run, or makes one.
   * @param scale of pgbench's tables: 15 MB each
   */
  static async open(work: WorkDirectory, scale: number, say: (text: string) => void): Promise<PreparedCluster> {
    const server = await openAndStart(await prepareCluster(work, scale, say), serverOptions)
    return new PreparedCluster(server, await bytesBelow(join(server.dataDir, 'base')))
  }

  /** Stops the server and leaves its files for the next run. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.stop('fast')
  }
}

/**
 * Makes the cluster where no run before has. Returns its directory, where `data` is, with no server.
 * @param scale of pgbench's tables: 15 MB each
 */
export async function prepareCluster(work: WorkDirectory, scale: number, say: (text: string) => void): Promise<string> {
  const directory = work.at(`pg17-scale-${scale}`)
  const ready = join(directory, 'prepared')
  const isReady = await access(ready).then(
    () => true,
    () => false,
  )
  if (isReady) return directory
  await rm(directory, { recursive: true, force: true })
  await makeServerDirectory(directory, 0o755)
  const layout = { major: 17, segmentSizeMb: 16, dataChecksums: false } as const
  await copyTree(await clusterTemplate(layout), join(directory, 'data'))
  const server = await openAndStart(directory, serverOptions)
  say(`pgbench: tables of scale ${scale}`)
  await initPgbench(server, scale)
  await server.checkpoint()
  await server.stop('fast')
  await writeFile(ready, '')
  return directory
}

/** Bytes of all files below a directory. */
export async function bytesBelow(directory: string): Promise<number> {
  let bytes = 0
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await stat(join(entry.parentPath, entry.name))).size
  }
  return bytes
}
