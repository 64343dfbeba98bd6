/**
 * Begins a base backup: an increment on another backup where one is asked for and can be had, else a full one with the
 * reason for it. Up to the first archive everything can be begun again.
 */
import type { Logger } from '../observe/log.ts'
import { WalrxError } from '../primitives/errors.ts'
import { type BaseBackup, startBaseBackup } from '../postgres/backup/base-backup.ts'
import { type BaseBackupOptions, linkBytesMax } from '../postgres/backup/base-backup-command.ts'
import { summariesOf } from '../postgres/relations/block-changes.ts'
import type { ClusterFacts } from '../postgres/backup/cluster-facts.ts'
import { formatLsn, type Lsn, parseLsn, type Timeline } from '../postgres/lsn.ts'
import { encodeParentManifest, type ParentManifest } from '../postgres/backup/parent-manifest.ts'
import type { PgSession } from '../postgres/connect/pg-session.ts'
import { ServerError, sqlstates } from '../postgres/protocol/server-error.ts'
import type { SqlOpening } from '../postgres/connect/sql-connection.ts'
import { stretchesBetween } from '../postgres/wal/wal-summaries.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import type { Storage } from '../storage/storage.ts'
import { type FullReason, isExpected } from './delta/full-reason.ts'
import { chooseParent, type DeltaParent, type DeltaRules } from './delta/parent-choice.ts'
import { judgeServer, type Readiness, reasonOfBlindness } from './delta/server-readiness.ts'

/** The server, as far as a backup needs it. */
export interface BackupSource {
  connect(signal: AbortSignal): Promise<PgSession>
  /** Opens an ordinary connection beside a session; left out where there is no way to. */
  trySql?(session: PgSession, signal?: AbortSignal): Promise<SqlOpening>
}

/** What {@link planBackup} needs. */
export interface PlanOptions {
  readonly server: BackupSource
  readonly storage: Storage
  /** Undefined takes a full backup, as `full` of the rules does. */
  readonly delta?: DeltaRules
  /** Of the new backup. */
  readonly isPermanent: boolean
  readonly log: Logger
  readonly signal: AbortSignal
}

/** What {@link beginBackup} needs. */
export interface BeginOptions extends PlanOptions {
  readonly backup: BaseBackupOptions
  /** True fails where the backup would have to be a full one. */
  readonly requireIncremental?: boolean
}

/** A backup just before its first archive. */
export interface BegunBackup {
  readonly backup: BaseBackup
  /** What it builds on; undefined for a full one. */
  readonly parent: DeltaParent | undefined
  /** Why it is a full one; undefined for an increment. */
  readonly full: FullReason | undefined
}

/** What a backup is to be. */
export type BackupPlan =
  | {
      readonly parent: DeltaParent
      /** The cluster's, and the timeline of the server when it was asked. */
      readonly systemId: bigint
      readonly timeline: Timeline
      readonly readiness: Extract<Readiness, { readonly full?: undefined }>
      readonly full?: undefined
    }
  | {
      readonly full: FullReason
      readonly parent?: undefined
      /** The backup that the server cannot build on. */
      readonly passedOver?: DeltaParent
      /** Undefined where the server was not asked. */
      readonly readiness?: Readiness
    }

const noDeltas: DeltaRules = { full: true, maxSteps: 0, origin: 'LATEST', fromName: undefined, fromUserData: undefined }

/**
 * Decides, by the archive and then by the server, without beginning anything.
 * @throws what {@link chooseParent} throws, what storage and server say
 */
export async function planBackup(options: PlanOptions, session: PgSession, cluster: ClusterFacts): Promise<BackupPlan> {
  const { delta = noDeltas, isPermanent, log, server, signal, storage } = options
  const archive = new BackupArchive(storage)
  const { full, parent } = await chooseParent(archive, delta, isPermanent, cluster, log, signal)
  if (full) return { full }
  const trySql = server.trySql && (() => server.trySql?.(session, signal) as Promise<SqlOpening>)
  const readiness = await judgeServer({ session, cluster, trySql, log, signal }, parent)
  if (readiness.full) return { full: readiness.full, passedOver: parent, readiness }
  return { parent, systemId: cluster.systemId, timeline: readiness.chain.newest.timeline, readiness }
}

/**
 * Begins; the session is used up or closed, whatever comes of it.
 * @throws WALRX_BACKUP_NOT_INCREMENTAL, WALRX_BACKUP_TOO_EARLY; what the server says
 */
export async function beginBackup(
  options: BeginOptions,
  session: PgSession,
  cluster: ClusterFacts,
): Promise<BegunBackup> {
  const { log, server, signal } = options
  let at = session
  try {
    let plan = await planBackup(options, session, cluster)
    let begunAnew = 0
    for (let tablespaceMap = false; ;) {
      if (plan.full) refuseFull(options, plan.full)
      const attempt = await tryBegin(options, at, plan, tablespaceMap)
      if (attempt.kind === 'begun') return attempt.begun
      await at.close()
      if (attempt.kind === 'refused') plan = { full: attempt.full }
      else if (attempt.kind === 'long-link') tablespaceMap = true
      else if (++begunAnew === begunAnewMax) plan = { full: restless }
      log.debug('beginning the backup again')
      at = await server.connect(signal)
    }
  } catch (error) {
    await at.close()
    throw error
  }
}

/** The error of a backup that has to be a full one, and must not be. */
export function notIncremental({ hint, message }: FullReason): WalrxError {
  const options = hint === undefined ? {} : { hint }
  return new WalrxError('WALRX_BACKUP_NOT_INCREMENTAL', `the backup would have to be a full one: ${message}`, options)
}

function refuseFull({ log, requireIncremental = false }: BeginOptions, full: FullReason): void {
  const { code, hint, message } = full
  if (requireIncremental) throw notIncremental(full)
  log[isExpected(full) ? 'info' : 'warn']('taking a full backup', { because: message, code, ...(hint && { hint }) })
}

/** What came of one attempt. */
type Attempt =
  | { readonly kind: 'begun'; readonly begun: BegunBackup }
  | { readonly kind: 'refused'; readonly full: FullReason }
  | { readonly kind: 'long-link' }
  /** A relation was cut that was uploaded as one that may come as an increment: it is known now. */
  | { readonly kind: 'cut' }

/** Attempts at most that end with a relation that was cut meanwhile. */
const begunAnewMax = 3

const restless: FullReason = {
  code: 'summaries',
  message: `relations were cut each of the ${begunAnewMax} times that an increment was begun`,
}

/**
 * Without a tablespace_map at first: restored into another folder by a tool that knows nothing of it, the map keeps the
 * server from starting or ties the clone to the original's folders; without it the links of pg_tblspc are taken as they
 * are, and folders there with allow_in_place_tablespaces. Only where a link does not fit into the server's tar is there no
 * other way.
 */
async function tryBegin(
  options: BeginOptions,
  session: PgSession,
  plan: BackupPlan,
  tablespaceMap: boolean,
): Promise<Attempt> {
  const { backup: command, log, signal } = options
  const { checkpoint } = command
  log.info('asking for a base backup: the server writes a checkpoint first', {
    host: session.host,
    checkpoint,
    ...(plan.parent && { buildsOn: plan.parent.name }),
  })
  let backup: BaseBackup
  try {
    const incremental = plan.parent !== undefined
    if (incremental) await session.uploadManifest(encodeParentManifest(manifestOf(plan)))
    backup = await startBaseBackup(session, { ...command, tablespaceMap, incremental }, signal)
  } catch (error) {
    if (!plan.parent || !(error instanceof ServerError && error.code === 'WALRX_SERVER_ERROR')) throw error
    const restartpoint = session.inRecovery ? startBefore(error, plan.parent) : undefined
    if (restartpoint !== undefined) throw tooEarly(session, plan.parent, restartpoint)
    return { kind: 'refused', full: reasonOfRefusal(error) }
  }
  const { startLsn, tablespaces, timeline } = backup.start
  if (plan.parent && timeline !== plan.timeline) {
    await backup.close()
    const message = `the server went from timeline ${plan.timeline} to ${timeline} while the backup was begun`
    return { kind: 'refused', full: { code: 'history', message } }
  }
  const lost = plan.parent && (await lookForCuts(options, session, plan, startLsn))
  if (lost) {
    await backup.close()
    return lost
  }
  const tooLong = tablespaces.find(({ location }) => Buffer.byteLength(location) > linkBytesMax)
  if (!tooLong || tablespaceMap) return { kind: 'begun', begun: { backup, parent: plan.parent, full: plan.full } }
  log.warn('the path of a tablespace is too long for a link in a tar: asking again, for a tablespace_map', {
    location: tooLong.location,
  })
  await backup.close()
  return { kind: 'long-link' }
}

/**
 * Where the backup would have begun, if the server refused because that is before the end of the parent. It says so in the
 * language of its own, but both positions are in every one of them.
 */
function startBefore(
  { message, sqlstate }: ServerError,
  { finishLsn }: Pick<DeltaParent, 'finishLsn'>,
): Lsn | undefined {
  if (sqlstate !== sqlstates.notInPrerequisiteState) return undefined
  const positions = (message.match(/\b[0-9A-F]{1,8}\/[0-9A-F]{1,8}\b/g) ?? []).map(parseLsn)
  return positions.includes(finishLsn) ? positions.find((lsn) => lsn < finishLsn) : undefined
}

/** A full backup would begin at the same restartpoint: of a large server that is idle it would be one more for nothing. */
function tooEarly({ host }: PgSession, { finishLsn, name, startLsn }: DeltaParent, restartpoint: Lsn): WalrxError {
  const where =
    restartpoint === startLsn ? `where ${name} begins` : `before ${formatLsn(finishLsn)}, where ${name} ends`
  return new WalrxError(
    'WALRX_BACKUP_TOO_EARLY',
    `${host} is a standby, and its last restartpoint is ${formatLsn(restartpoint)}, ${where}: there is nothing new to begin a delta at`,
    { hint: 'a checkpoint on the primary gives it the next one; --full takes a full backup all the same' },
  )
}

type DeltaPlan = Extract<BackupPlan, { readonly full?: undefined }>

/** What the server gets to know of the parent. */
function manifestOf({ parent, readiness, systemId }: DeltaPlan): ParentManifest {
  return { ...parent, systemId, paths: readiness.cuts.without(parent.paths) }
}

/**
 * Whether a relation was cut between the question and the start of the backup: looked for when the server has all
 * summaries.
 * @returns undefined where the server knows of all of them
 */
async function lookForCuts(
  { log, server, signal }: BeginOptions,
  session: PgSession,
  { parent, readiness }: DeltaPlan,
  startLsn: Lsn,
): Promise<Attempt | undefined> {
  const opening = await server.trySql?.(session, signal)
  if (!opening?.sql) return { kind: 'refused', full: reasonOfBlindness(opening?.reason) }
  try {
    const needed = stretchesBetween(readiness.chain, parent, startLsn)
    const summaries = summariesOf(await opening.sql.readWalSummaries(), needed)
    const { added } = await readiness.cuts.read(opening.sql, summaries, signal)
    if (added === 0) return undefined
    log.info('relations were cut while the backup was begun', { segments: added })
    return { kind: 'cut' }
  } finally {
    await opening.sql.close()
  }
}

function reasonOfRefusal(error: ServerError): FullReason {
  const { hint, message } = error
  return { code: 'server', message, ...(hint === undefined ? {} : { hint }) }
}
