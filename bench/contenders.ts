/** Who is measured, and how each is started. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { programVersion } from './machine.ts'

/** A codec by WAL-G's name for it. */
export type CodecName = 'zstd' | 'lz4' | 'brotli' | 'none'

/** Where a run's archive goes. */
export type Target =
  | { readonly kind: 'file'; readonly directory: string }
  | { readonly kind: 's3'; readonly prefix: string; readonly environment: Readonly<Record<string, string>> }

/** What a contender needs for one run. */
export interface ReceiveTask {
  readonly port: number
  readonly slot: string
  readonly target: Target
  /** An empty directory for what it keeps locally. */
  readonly stateDirectory: string
  /** Its home directory, the same in every run: walrx keeps compiled code there. */
  readonly home: string
  /** Where to stop, for those that can. */
  readonly endLsn: string | undefined
}

/** A program to start. */
export interface Launch {
  readonly command: string
  readonly args: readonly string[]
  readonly environment: Readonly<Record<string, string>>
  /** True when it ends with status 0 once `endLsn` is archived; the others get a request to stop. */
  readonly endsByItself?: boolean
}

/** One contender with one codec. */
export interface Contender {
  readonly name: string
  readonly codec: CodecName
  readonly version: string
  /** True for one that has a key. */
  readonly isEncrypted?: boolean
  /** Why it cannot be measured with this kind of target, or undefined. */
  unfit(kind: Target['kind']): string | undefined
  launch(task: ReceiveTask): Promise<Launch>
}

/** A contender that there is no binary for. */
export interface AbsentContender {
  readonly name: string
  readonly reason: string
}

const noPath = { PATH: process.env['PATH'] ?? '' }

/** How all of them reach the server: over loopback, without TLS or password. */
function connection(task: ReceiveTask): Record<string, string> {
  return {
    PGHOST: '127.0.0.1',
    PGPORT: String(task.port),
    PGUSER: 'postgres',
    PGDATABASE: 'postgres',
    PGSSLMODE: 'disable',
  }
}

/** The settings that WAL-G, WAL-RUS and walrx share. */
function walgEnvironment(task: ReceiveTask, codec: CodecName): Record<string, string> {
  const { target, slot } = task
  return {
    ...noPath,
    ...connection(task),
    WALG_SLOTNAME: slot,
    WALG_COMPRESSION_METHOD: codec,
    ...(target.kind === 'file'
      ? { WALG_FILE_PREFIX: target.directory }
      : { WALG_S3_PREFIX: target.prefix, ...target.environment }),
  }
}

/** Options of {@link walrx}. */
export interface WalrxOptions {
  readonly codec: CodecName
  /** `--memory`; undefined leaves walrx its default. */
  readonly memory?: string
}

/** walrx, with the codec's default level and everything else by default. */
export function walrx(main: string, version: string, { codec, memory }: WalrxOptions): Contender {
  return {
    name: memory === undefined ? 'walrx' : `walrx --memory ${memory}`,
    codec,
    version,
    unfit: () => undefined,
    launch: (task) =>
      Promise.resolve({
        command: process.execPath,
        args: [
          main,
          'wal-receive',
          ...(task.endLsn === undefined ? [] : ['--endpos', task.endLsn]),
          ...(memory === undefined ? [] : ['--memory', memory]),
        ],
        environment: {
          ...walgEnvironment(task, codec),
          HOME: task.home,
          WALRX_STATUS_LISTEN: 'off',
          WALRX_LOG_FORMAT: 'json',
        },
        endsByItself: task.endLsn !== undefined,
      }),
  }
}

function pgReceivewal(binary: string, version: string, sync: boolean): Contender {
  return {
    name: sync ? 'pg_receivewal' : 'pg_receivewal --no-sync',
    codec: 'none',
    version,
    unfit: (kind) => (kind === 's3' ? 'it writes into a directory only' : undefined),
    async launch(task) {
      if (task.target.kind !== 'file') throw new Error('pg_receivewal cannot write to a bucket')
      const directory = join(task.target.directory, 'wal_005')
      await mkdir(directory, { recursive: true })
      const args = ['--directory', directory, '--slot', task.slot, '--no-loop', '--no-password']
      return {
        command: binary,
        args: sync ? args : [...args, '--no-sync'],
        environment: { ...noPath, ...connection(task) },
      }
    },
  }
}

function walG(binary: string, version: string, codec: CodecName): Contender {
  return {
    name: 'WAL-G',
    codec,
    version,
    unfit: () => undefined,
    async launch(task) {
      // It keeps its notes below a data directory, even where it only receives.
      const dataDirectory = join(task.stateDirectory, 'pgdata')
      await mkdir(join(dataDirectory, 'pg_wal/archive_status'), { recursive: true })
      return {
        command: binary,
        args: ['wal-receive'],
        environment: { ...walgEnvironment(task, codec), PGDATA: dataDirectory, HOME: task.home },
      }
    },
  }
}

function walRus(binary: string, version: string, codec: CodecName): Contender {
  return {
    name: 'WAL-RUS',
    codec,
    version,
    unfit: () => undefined,
    async launch(task) {
      const spool = join(task.stateDirectory, 'spool')
      await mkdir(spool, { recursive: true })
      return {
        command: binary,
        args: ['wal-receive', spool],
        environment: { ...walgEnvironment(task, codec), HOME: task.home },
      }
    },
  }
}

/** The peers with a binary in the environment: `PG_RECEIVEWAL`, `WALG_BIN`, `WALRUS_BIN`. */
export async function findPeers(codecs: readonly CodecName[]): Promise<(Contender | AbsentContender)[]> {
  const peers: (Contender | AbsentContender)[] = []
  const add = async (variable: string, name: string, make: (binary: string, version: string) => Contender[]) => {
    const binary = process.env[variable]
    if (binary) peers.push(...make(binary, await programVersion(binary)))
    else peers.push({ name, reason: `${variable} names no binary` })
  }
  await add('PG_RECEIVEWAL', 'pg_receivewal', (binary, version) =>
    [true, false].map((sync) => pgReceivewal(binary, version, sync)),
  )
  await add('WALG_BIN', 'WAL-G', (binary, version) => codecs.map((codec) => walG(binary, version, codec)))
  await add('WALRUS_BIN', 'WAL-RUS', (binary, version) => codecs.map((codec) => walRus(binary, version, codec)))
  return peers
}

/** True for a contender that can be started. */
export function isPresent(contender: Contender | AbsentContender): contender is Contender {
  return 'launch' in contender
}
