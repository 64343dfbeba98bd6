/**
 * What a backup would be, found out without beginning one: no checkpoint is asked for, nothing is written, and no slot is
 * used. The decision is that of a backup; SQL adds the rest. What cannot be found out is reported as unknown.
 */
import type { Logger } from '../../observe/log.ts'
import { hasCode, toWalrxError, type WalrxError } from '../../primitives/errors.ts'
import {
  type Fork,
  forks,
  parseSegmentChange,
  type RelationLocator,
  segmentChangesQuery,
  type SegmentChange,
} from '../../postgres/relations/block-changes.ts'
import { type ClusterFacts, readClusterFacts } from '../../postgres/backup/cluster-facts.ts'
import { dataFilesFunctions, dataFilesQuery, parseDataFile } from '../../postgres/relations/data-files.ts'
import { bytesBetween, type Lsn, parseLsn, type Timeline } from '../../postgres/lsn.ts'
import type { PgSession } from '../../postgres/connect/pg-session.ts'
import {
  databaseNamesQuery,
  locatorKey,
  parseRelationName,
  parseRelationPath,
  type RelationName,
  relationNamesQuery,
  relationPath,
  tablespaceFolderQuery,
} from '../../postgres/relations/relation-names.ts'
import type { SqlConnection } from '../../postgres/connect/sql-connection.ts'
import { checkKeys } from '../../walg/wal/key-check.ts'
import { checkSystem } from '../../walg/wal/system-binding.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import { type BackupPlan, planBackup, type PlanOptions } from '../backup-begin.ts'
import type { DeltaParent } from '../delta/parent-choice.ts'
import type { SummaryCover } from '../delta/server-readiness.ts'
import { ChangeIndex, type DeltaSize, forkKey, methodOf, SizeEstimate } from './size-estimate.ts'

/** A fork of a relation that has changed since the parent began. */
export interface ChangedFork extends RelationLocator {
  readonly fork: Fork
  /** Of its first file, relative to the data directory. */
  readonly path: string
  /** Blocks that have changed, each counted once. */
  blocks: number
  /** Blocks that it had when it was shortest: 0 where it was created, emptied or dropped. Undefined where it was not cut. */
  limit: number | undefined
  /** Undefined where it is not known: it belongs to another database, or is gone. */
  name: RelationName | undefined
  /** Of its database; undefined for one that all share, or that has gone. */
  readonly databaseName: string | undefined
  /** False where it has no file any more; undefined where the files are not known. */
  isThere: boolean | undefined
}

/** Something that could not be found out. */
export interface UnknownFact {
  readonly what: 'changes' | 'names' | 'sizes'
  readonly reason: WalrxError
  /** What would let it be found out. */
  readonly hint: string | undefined
}

/** What the server was when it was asked. */
export interface PlannedServer {
  readonly host: string
  readonly cluster: ClusterFacts
  readonly inRecovery: boolean
  readonly timeline: Timeline
  readonly lsn: Lsn
}

/** See the file's header. */
export interface PlanReport {
  readonly plan: BackupPlan
  /** The backup that it builds on; where the server cannot, the one that it would have built on. */
  readonly parent: DeltaParent | undefined
  readonly server: PlannedServer
  /** Bytes of WAL since the parent's start; undefined without a parent in the server's history. */
  readonly walBytes: number | undefined
  readonly summaries: SummaryCover | undefined
  /** The largest first; undefined where it is not known, or does not matter. */
  readonly changes: readonly ChangedFork[] | undefined
  /** Undefined for a full one, and where it is not known. */
  readonly delta: DeltaSize | undefined
  /** Bytes of the tars of a full backup, before they are compressed. */
  readonly full: { readonly bytes: number; readonly by: 'files' | 'databases' } | undefined
  /**
   * The last restartpoint of a standby, when it is before the end of the parent: unless the standby has another one by
   * then, a delta would begin too early, and none is taken.
   */
  readonly earlyStart: Lsn | undefined
  readonly unknown: readonly UnknownFact[]
}

/** What {@link makePlan} needs. */
export interface MakePlanOptions extends PlanOptions {
  /** Bytes of a tar at most. */
  readonly partBytesMax: number
}

/**
 * Plans.
 * @throws WALRX_OTHER_CLUSTER, WALRX_KEY_MISSING, WALRX_KEY_WRONG, and what archive and server say where a backup would end with it
 */
export async function makePlan(options: MakePlanOptions): Promise<PlanReport> {
  const { server, signal, storage } = options
  const session = await server.connect(signal)
  try {
    const cluster = await readClusterFacts(session)
    await checkKeys(storage, { signal })
    await checkSystem(storage, new WalReader(storage), cluster, { signal })
    const plan = await planBackup(options, session, cluster)
    const { timeline, xlogpos } = await session.identifySystem()
    const { host, inRecovery } = session
    const parent = plan.parent ?? (plan.full && plan.passedOver)
    const end = plan.full?.code === 'history' ? undefined : plan.readiness?.serverEnd
    return {
      plan,
      parent,
      server: { host, cluster, inRecovery, timeline, lsn: xlogpos },
      walBytes: parent && end && Math.max(0, bytesBetween(parent.startLsn, end)),
      summaries: plan.readiness?.summaries,
      ...(await survey(options, session, plan)),
    }
  } finally {
    await session.close()
  }
}

type Findings = Pick<PlanReport, 'changes' | 'delta' | 'earlyStart' | 'full' | 'unknown'>

async function survey(options: MakePlanOptions, session: PgSession, plan: BackupPlan): Promise<Findings> {
  const { log, server, signal } = options
  const opening = await server.trySql?.(session, signal)
  if (!opening?.sql) {
    const nothing = { changes: undefined, delta: undefined, earlyStart: undefined, full: undefined }
    if (!opening) return { ...nothing, unknown: [] }
    const { reason } = opening
    return { ...nothing, unknown: [{ what: 'sizes', reason, hint: reason.hint }] }
  }
  try {
    return await new Survey(opening.sql, options, log).run(plan, session.inRecovery)
  } finally {
    await opening.sql.close()
  }
}

/** Asks by SQL. A question that fails leaves the others. */
class Survey {
  readonly #sql: SqlConnection
  readonly #options: MakePlanOptions
  readonly #log: Logger
  readonly #unknown: UnknownFact[] = []

  constructor(sql: SqlConnection, options: MakePlanOptions, log: Logger) {
    this.#sql = sql
    this.#options = options
    this.#log = log
  }

  async run(plan: BackupPlan, inRecovery: boolean): Promise<Findings> {
    const { parent, readiness } = plan
    const index = new ChangeIndex()
    const changed = parent && (await this.#changes(readiness?.summaries, index))
    if (changed && changed.size > 0) await this.#name(changed)
    const sizes = await this.#sizes(changed && parent, index, changed)
    const changes = changed && [...changed.values()]
    changes?.sort((a, b) => b.blocks - a.blocks || (locatorKey(a) < locatorKey(b) ? -1 : 1))
    const earlyStart = parent && inRecovery ? await this.#earlyStart(parent) : undefined
    return { changes, ...sizes, earlyStart, unknown: this.#unknown }
  }

  async #tried<T>(
    what: UnknownFact['what'],
    step: () => Promise<T>,
    hint?: () => Promise<string>,
  ): Promise<T | undefined> {
    try {
      return await step()
    } catch (error) {
      this.#options.signal.throwIfAborted()
      const reason = toWalrxError(error)
      this.#miss(what, reason, hasCode(reason, 'WALRX_NO_PRIVILEGE') ? await hint?.() : undefined)
      return undefined
    }
  }

  #miss(what: UnknownFact['what'], reason: WalrxError, hint = reason.hint): void {
    // A defect of ours is none of the server's.
    if (reason.code === 'WALRX_INTERNAL') throw reason
    this.#log.debug('not known', { what, reason: reason.message })
    this.#unknown.push({ what, reason, hint })
  }

  /** By {@link forkKey}; undefined where it is not known. */
  async #changes(
    summaries: SummaryCover | undefined,
    index: ChangeIndex,
  ): Promise<Map<string, ChangedFork> | undefined> {
    if (!summaries) return undefined
    const { signal } = this.#options
    const changed = new Map<string, ChangedFork>()
    if (summaries.available.length === 0) return changed
    return this.#tried('changes', async () => {
      const databases = new Map<number, string>()
      for await (const [oid, name] of this.#sql.stream(databaseNamesQuery, signal))
        databases.set(Number(oid), name ?? '')
      let folder = ''
      for await (const [name] of this.#sql.stream(tablespaceFolderQuery, signal)) folder = name ?? ''
      for await (const row of this.#sql.stream(segmentChangesQuery(summaries.available), signal)) {
        const change = parseSegmentChange(row)
        index.add(change)
        addTo(changed, change, { databaseName: databases.get(change.database), folder })
      }
      return changed
    })
  }

  async #name(changed: ReadonlyMap<string, ChangedFork>): Promise<void> {
    await this.#tried('names', async () => {
      for await (const row of this.#sql.stream(relationNamesQuery, this.#options.signal)) {
        const [locator, name] = parseRelationName(row)
        for (const fork of forks) {
          const own = changed.get(forkKey({ ...locator, fork }))
          if (own) own.name = name
        }
      }
    })
  }

  /** @param parent undefined where no delta can be estimated */
  async #sizes(
    parent: DeltaParent | undefined,
    index: ChangeIndex,
    changed: ReadonlyMap<string, ChangedFork> | undefined,
  ): Promise<Pick<Findings, 'delta' | 'full'>> {
    const { partBytesMax, signal } = this.#options
    const has = (path: string) => parent?.paths.has(path) === true
    const estimate = new SizeEstimate(partBytesMax, parent && ((file) => methodOf(file, index, has)))
    const hint = async () =>
      `let a superuser run, in the database of the connection: grant execute on function ${dataFilesFunctions} to ${await this.#role()}`
    const there = await this.#tried(
      'sizes',
      async () => {
        const found = new Set<ChangedFork>()
        for await (const row of this.#sql.stream(dataFilesQuery(this.#sql.serverVersion), signal)) {
          const file = parseDataFile(row)
          estimate.add(file)
          const own = parseRelationPath(file.path)
          const fork = own && changed?.get(forkKey(own))
          if (fork) found.add(fork)
        }
        return found
      },
      hint,
    )
    if (!there) return { delta: undefined, full: await this.#databaseSizes() }
    for (const fork of changed?.values() ?? []) fork.isThere = there.has(fork)
    return { delta: estimate.delta, full: { bytes: estimate.full.bytes, by: 'files' } }
  }

  async #earlyStart({ finishLsn }: DeltaParent): Promise<Lsn | undefined> {
    if (this.#sql.isBroken) return undefined
    for await (const [redo] of this.#sql.stream('select redo_lsn from pg_control_checkpoint()', this.#options.signal)) {
      const lsn = parseLsn(redo ?? '')
      if (lsn < finishLsn) return lsn
    }
    return undefined
  }

  /** The role of the connection, as SQL writes it. */
  async #role(): Promise<string> {
    if (this.#sql.isBroken) return '…'
    for await (const [role] of this.#sql.stream('select quote_ident(current_user)', this.#options.signal))
      return role ?? '…'
    return '…'
  }

  async #databaseSizes(): Promise<PlanReport['full']> {
    if (this.#sql.isBroken) return undefined
    try {
      const query = 'select sum(pg_database_size(oid)) from pg_database'
      for await (const [bytes] of this.#sql.stream(query, this.#options.signal))
        return { bytes: Number(bytes), by: 'databases' }
    } catch (error) {
      this.#options.signal.throwIfAborted()
      this.#log.debug('the sizes of the databases are not known', { reason: toWalrxError(error).message })
    }
    return undefined
  }
}

/** What the oids of a change are called. */
interface Places {
  readonly databaseName: string | undefined
  readonly folder: string
}

function addTo(
  changed: Map<string, ChangedFork>,
  { blocks, fork, limit, ...rest }: SegmentChange,
  { databaseName, folder }: Places,
): void {
  const { database, relation, tablespace } = rest
  const locator = { database, relation, tablespace }
  const key = forkKey({ ...locator, fork })
  const before = changed.get(key)
  if (before) {
    before.blocks += blocks
    before.limit ??= limit
    return
  }
  const path = relationPath(locator, fork, folder)
  changed.set(key, { ...locator, fork, path, blocks, limit, name: undefined, databaseName, isThere: undefined })
}
