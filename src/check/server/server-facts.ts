/** What is known of the server after it was asked, and why the rest is not. */
import type { SlotHealth } from '../../postgres/connect/sql-connection.ts'
import type { SlotReading } from '../../postgres/protocol/session.ts'
import type { WalrxError } from '../../primitives/errors.ts'
import type { Attempt } from '../attempt.ts'

/** One host of a list. */
export interface HostFacts {
  /** `host:port`. */
  readonly label: string
  /** `primary` or `standby`; undefined where it does not answer. */
  readonly state: 'primary' | 'standby' | undefined
  readonly failure: WalrxError | undefined
}

/** What a replication connection shows. */
export interface SessionFacts {
  /** `host:port`, or the path of a socket. */
  readonly host: string
  /** server_version_num. */
  readonly version: number
  readonly inRecovery: boolean
  readonly isEncrypted: boolean
  /** False where the way leads over a network. */
  readonly isLocal: boolean
  readonly systemId: bigint
  readonly timeline: number
  /** Our slot, as READ_REPLICATION_SLOT shows it; undefined with --slotless. */
  readonly slot: SlotReading | undefined
}

/** What an ordinary connection shows, of one moment. */
export interface SqlFacts {
  readonly isSuperuser: boolean
  readonly mayReplicate: boolean
  readonly seesEverything: boolean
  /** -1 for none. */
  readonly connectionLimit: number
  /** End of the password's validity, in milliseconds since 1970; undefined for none. */
  readonly validUntilMs: number | undefined
  readonly walsenders: number
  readonly slots: number
  /** Milliseconds by which the server's clock is ahead of ours; half of the way there and back is the possible error. */
  readonly clockAheadMs: number
  readonly clockErrorMs: number
  /** Our slot; undefined where there is none. */
  readonly slot: SlotHealth | undefined
  readonly slotUser: SlotUser | undefined
  /** Undefined where pg_stat_archiver could not be read. */
  readonly archiver: ArchiverFacts | undefined
}

/** Who uses our slot. */
export interface SlotUser {
  readonly pid: number
  /** Undefined where the role may not see it. */
  readonly applicationName: string | undefined
  readonly role: string | undefined
  readonly address: string | undefined
}

/** Of pg_stat_archiver. */
export interface ArchiverFacts {
  readonly failed: number
  readonly lastFailedWal: string | undefined
  /** True where the last attempt failed. */
  readonly isFailing: boolean
}

/** The file system of the data directory, as this machine sees it. */
export interface ServerDisk {
  readonly path: string
  readonly freeBytes: number
  readonly totalBytes: number
  /** Number of the device, to compare with the archive's; undefined where that cannot be seen. */
  readonly device: number | undefined
}

/** See the file's header. */
export interface ServerFacts {
  /** Of a connection string with several hosts. */
  readonly hosts: readonly HostFacts[]
  readonly session: Attempt<SessionFacts>
  readonly sql: Attempt<SqlFacts>
  /** As SHOW writes them, by name; what the role may not see, or the version does not have, is missing. */
  readonly settings: ReadonlyMap<string, string>
  /** Undefined where the server is not provably on this machine, or hides its data directory. */
  readonly disk: ServerDisk | undefined
}

/** Reads a size as SHOW writes it (`64MB`, `1kB`, `-1`), in bytes; -1 stays -1. Undefined for anything else. */
export function parseShownBytes(text: string | undefined): number | undefined {
  const match = /^(-?\d+)\s*(B|kB|MB|GB|TB)?$/.exec(text?.trim() ?? '')
  if (!match) return undefined
  const amount = Number(match[1])
  const power = ['B', 'kB', 'MB', 'GB', 'TB'].indexOf(match[2] ?? 'B')
  return amount < 0 ? -1 : amount * 1024 ** power
}
