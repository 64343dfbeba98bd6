/** Everything that the service of one cluster is built from. */
import type { CodecValues, StorageValues } from '../config/open-storage.ts'
import type { Logger } from '../observe/log.ts'
import type { MetricsPage } from '../observe/metrics-page.ts'
import type { Conninfo } from '../postgres/connect/conninfo.ts'
import type { Lsn } from '../postgres/lsn.ts'
import type { Clock } from '../primitives/clock.ts'
import type { TailPace } from '../receive/tail/tail-pace.ts'
import type { BindingObserver } from './watched-archive.ts'

/** The replication slot of a cluster, and what it may cost the server. */
export interface SlotSettings {
  /** It is created where it is missing. */
  readonly name: string
  /** Bytes of WAL that it may make the server keep; undefined without a limit. */
  readonly maxLagBytes: number | undefined
  /** What is done above `maxLagBytes`: report it, or drop the slot as well. */
  readonly lagAction: 'warn' | 'drop'
}

/** How a base backup is taken after a gap: by a process of its own, or by who runs several services. */
export type GapBackupSettings =
  | {
      /** Program and arguments. They must name the same server and the same archive. */
      readonly command: readonly [string, ...string[]]
      /** Its whole environment: nothing is inherited beside it. */
      readonly environment: Readonly<Record<string, string | undefined>>
    }
  | {
      /** Takes it. Returns the exit status; undefined when a signal ended it. Throws the signal's reason. */
      readonly take: (signal: AbortSignal) => Promise<number | undefined>
    }

/**
 * One value for one cluster. Two services in one process share nothing but what is given to both: `clock`, `random`,
 * `log` and `metrics` may be.
 */
export interface ServiceSettings {
  /** Name of the cluster: the label `cluster` of its metrics. No two services on one page of metrics have the same. */
  readonly cluster: string
  /** Where the archive is, with the credentials for it. */
  readonly storage: StorageValues
  /** How new objects are compressed. */
  readonly compression: CodecValues
  /** The server, or several hosts of it. */
  readonly conninfo: Conninfo
  /** Receive from a server in recovery too. */
  readonly allowStandby: boolean
  /** Undefined streams without a slot: the server may then remove WAL that is not archived. */
  readonly slot: SlotSettings | undefined
  /** Bytes for WAL in memory, of this service alone; undefined for the larger of 64 MiB and four segments. */
  readonly memoryBytes: number | undefined
  /** Segments that are compressed and uploaded at the same time. */
  readonly uploadConcurrency: number
  /** When the beginning of an unfinished segment is archived, and whether commits wait for that. */
  readonly tailPace: TailPace
  /** Milliseconds that commits wait for a storage that is out, before we step down; undefined for ever. */
  readonly syncOutageMs: number | undefined
  /** The run ends when all WAL up to this position is in the archive; undefined for never. */
  readonly endpos: Lsn | undefined
  /** Milliseconds that a stop waits for uploads to finish. */
  readonly drainTimeoutMs: number
  /** Learns whether the archive is the cluster's own; default nobody. */
  readonly binding?: BindingObserver | undefined
  /** Undefined takes none. */
  readonly gapBackup: GapBackupSettings | undefined
  /** Time and timers. */
  readonly clock: Clock
  /** Random number in [0, 1), for the jitter of back-off and the order of hosts. */
  readonly random: () => number
  /** Where messages go: where several clusters share it, a child with the field `cluster`. */
  readonly log: Logger
  /** The page on which the metrics of this cluster are shown, from the start of the service until it is closed. */
  readonly metrics: MetricsPage
}

/**
 * The name of a cluster by its archive: the last folder of the prefix, `db1` for `s3://backups/db1` or
 * `/srv/archive/db1`; the bucket, where the archive has no folder of its own.
 */
export function clusterNameOf({ filePrefix, s3Prefix, storagePrefix }: StorageValues): string {
  const folders = [s3Prefix ?? filePrefix, storagePrefix].flatMap((path) => path?.split('/') ?? [])
  return folders.findLast((folder) => folder !== '') ?? 'walrx'
}
