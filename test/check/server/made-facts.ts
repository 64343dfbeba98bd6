/** Facts of a server that is as it should be, for tests that spoil one of them. */
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import type { CheckId } from '../../../src/check/check-table.ts'
import type { CheckWish } from '../../../src/check/check-wish.ts'
import type { Finding, FindingLevel } from '../../../src/check/finding.ts'
import type { ServerFacts, SessionFacts, SqlFacts } from '../../../src/check/server/server-facts.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'

const settings = {
  wal_level: 'replica',
  max_wal_senders: '10',
  max_replication_slots: '10',
  wal_sender_timeout: '1min',
  wal_segment_size: '16MB',
  max_slot_wal_keep_size: '20GB',
  wal_keep_size: '0',
  idle_replication_slot_timeout: '0',
  summarize_wal: 'on',
  wal_summary_keep_time: '10d',
  full_page_writes: 'on',
  fsync: 'on',
  data_checksums: 'on',
  synchronous_standby_names: '',
  synchronous_commit: 'on',
  archive_mode: 'off',
  archive_command: '(disabled)',
  archive_library: '',
  statement_timeout: '0',
  idle_session_timeout: '0',
  transaction_timeout: '0',
}

const session: SessionFacts = {
  host: 'db1:5432',
  version: 180_001,
  inRecovery: false,
  isEncrypted: true,
  isLocal: false,
  systemId: 7n,
  timeline: 1,
  slot: { kind: 'missing' },
}

const sql: SqlFacts = {
  isSuperuser: false,
  mayReplicate: true,
  seesEverything: true,
  connectionLimit: -1,
  validUntilMs: undefined,
  walsenders: 1,
  slots: 0,
  clockAheadMs: 0,
  clockErrorMs: 1,
  slot: undefined,
  slotUser: undefined,
  archiver: undefined,
}

/** What a test spoils. */
export interface Spoilt {
  readonly settings?: Partial<typeof settings>
  readonly session?: Partial<SessionFacts>
  readonly sql?: Partial<SqlFacts>
}

/** Facts, with some of them spoilt. */
export function factsWith(spoilt: Spoilt = {}, more: Partial<ServerFacts> = {}): ServerFacts {
  return {
    hosts: [],
    session: { value: { ...session, ...spoilt.session } },
    sql: { value: { ...sql, ...spoilt.sql } },
    settings: new Map(Object.entries({ ...settings, ...spoilt.settings })),
    disk: undefined,
    ...more,
  }
}

/** Nothing answered. */
export function noFacts(): ServerFacts {
  const error = new WalrxError('WALRX_CONNECT_FAILED', 'db1:5432 does not answer')
  return { hosts: [], session: { error }, sql: { error }, settings: new Map(), disk: undefined }
}

/** What is checked for, with other options. */
export function wishWith(options: Partial<CheckWish> = {}): CheckWish {
  const given = { env: {}, flags: {}, readFile: () => undefined, osUser: undefined, home: undefined }
  return {
    conninfo: parseConninfo('host=db1 user=walrx', given),
    slot: 'walrx',
    allowStandby: false,
    isSynchronous: false,
    maxSlotLagBytes: undefined,
    dropsSlot: false,
    deltaMaxSteps: 0,
    requireIncremental: false,
    memoryBytes: undefined,
    ...options,
  }
}

/** The findings that are neither good nor skipped, as `id level`. */
export function complaints(findings: readonly Finding[]): string[] {
  return findings.filter(({ level }) => !['ok', 'skipped'].includes(level)).map(({ id, level }) => `${id} ${level}`)
}

/** The level of one finding. */
export function levelOf(findings: readonly Finding[], id: CheckId): FindingLevel | undefined {
  return findings.find((finding) => finding.id === id)?.level
}
