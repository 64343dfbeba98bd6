/** The programs that take and restore backups, and their command lines. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { CodecName, Launch, Target } from './contenders.ts'
import { programVersion } from './machine.ts'

/** What a contender needs for one run. */
export interface BackupTask {
  readonly port: number
  readonly target: Target
  /** An empty directory for what it keeps locally. */
  readonly stateDirectory: string
  /** Its home directory, the same in every run. */
  readonly home: string
}

/** A contender with one codec. */
export interface BackupContender {
  readonly name: string
  readonly codec: CodecName
  readonly version: string
  /** Why it is not measured, or undefined. */
  readonly reason: string | undefined
  backup(task: BackupTask): Promise<Launch>
  /** Undefined for one that restores nothing by itself. */
  readonly restore?: (task: BackupTask, destination: string) => Promise<Launch>
}

function environment({ home, port, target }: BackupTask, codec: CodecName): Record<string, string> {
  return {
    PATH: process.env['PATH'] ?? '',
    HOME: home,
    PGHOST: '127.0.0.1',
    PGPORT: String(port),
    PGUSER: 'postgres',
    PGDATABASE: 'postgres',
    PGSSLMODE: 'disable',
    WALG_COMPRESSION_METHOD: codec,
    ...(target.kind === 'file'
      ? { WALG_FILE_PREFIX: target.directory }
      : { WALG_S3_PREFIX: target.prefix, ...target.environment }),
  }
}

/** walrx with its defaults, but without the wait for WAL, which no receiver archives here. */
export function walrxBackup(main: string, version: string, codec: CodecName): BackupContender {
  const launch = (task: BackupTask, args: readonly string[]): Promise<Launch> =>
    Promise.resolve({
      command: process.execPath,
      args: [main, ...args],
      environment: { ...environment(task, codec), WALRX_LOG_FORMAT: 'json' },
      endsByItself: true,
    })
  return {
    name: 'walrx',
    codec,
    version,
    reason: undefined,
    backup: (task) => launch(task, ['backup-push', '--no-wait']),
    restore: (task, destination) => launch(task, ['backup-fetch', destination, 'LATEST']),
  }
}

/** Tars from server to client, compressed by the client: what the others do too. */
function pgBasebackup(binary: string, version: string, codec: CodecName, kind: Target['kind']): BackupContender {
  const unfit = kind === 's3' ? 'it writes into a directory only' : undefined
  return {
    name: 'pg_basebackup',
    codec,
    version,
    reason: unfit ?? (codec === 'brotli' ? 'it has no brotli' : undefined),
    async backup(task) {
      if (task.target.kind !== 'file') throw new Error('pg_basebackup cannot write to a bucket')
      await mkdir(task.target.directory, { recursive: true })
      const compress = codec === 'none' ? 'none' : `client-${codec}`
      const options = ['--wal-method=none', '--checkpoint=fast', '--no-password', '--format=tar']
      return {
        command: binary,
        args: [...options, `--compress=${compress}`, '--pgdata', join(task.target.directory, 'backup')],
        environment: environment(task, codec),
        endsByItself: true,
      }
    },
  }
}

/** WAL-G or WAL-RUS. */
function peer(
  name: string,
  binary: string,
  version: string,
  codec: CodecName,
  args: readonly string[],
): BackupContender {
  const launch = (task: BackupTask, words: readonly string[]): Promise<Launch> =>
    Promise.resolve({
      command: binary,
      args: words,
      environment: environment(task, codec),
      endsByItself: true,
    })
  return {
    name,
    codec,
    version,
    reason: undefined,
    backup: (task) => launch(task, ['backup-push', ...args]),
    restore: (task, destination) => launch(task, ['backup-fetch', destination, 'LATEST']),
  }
}

/** The peers with a binary in the environment: `PG_BASEBACKUP`, `WALG_BIN`, `WALRUS_BIN`. */
export async function findBackupPeers(codecs: readonly CodecName[], kind: Target['kind']): Promise<BackupContender[]> {
  const peers: BackupContender[] = []
  const add = async (
    variable: string,
    name: string,
    make: (binary: string, version: string, codec: CodecName) => BackupContender,
  ) => {
    const binary = process.env[variable]
    const version = binary ? await programVersion(binary) : ''
    for (const codec of codecs) {
      const reason = binary ? undefined : `${variable} names no binary`
      const contender = make(binary ?? '', version, codec)
      peers.push(reason === undefined ? contender : { ...contender, name, reason })
    }
  }
  await add('PG_BASEBACKUP', 'pg_basebackup', (binary, version, codec) => pgBasebackup(binary, version, codec, kind))
  await add('WALG_BIN', 'WAL-G', (binary, version, codec) => peer('WAL-G', binary, version, codec, []))
  await add('WALRUS_BIN', 'WAL-RUS', (binary, version, codec) => peer('WAL-RUS', binary, version, codec, ['--fast']))
  return peers
}
