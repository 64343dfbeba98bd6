/** `walrx backup-fetch DEST NAME`: a backup as a data directory, and the recovery that it goes into. */
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { openStorage } from '../../config/open-storage.ts'
import type { OptionValues } from '../../config/options/options.ts'
import type { Logger } from '../../observe/log.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import type { ReadSummary } from '../../restore/backup/backup-reader.ts'
import { ThreadLanes } from '../../restore/backup/parts/thread-lane.ts'
import { fetchBackup, fetchFiles, incompleteMarker, refuseUsedDestination } from '../../restore/backup/backup-fetch.ts'
import type { DeltaPlan } from '../../restore/backup/delta/delta-plan.ts'
import { planDelta } from '../../restore/backup/delta/delta-plan.ts'
import { fetchOver } from '../../restore/backup/delta/delta-fetch.ts'
import { refuseRunning } from '../../restore/backup/delta/directory-lock.ts'
import {
  clusterOf,
  isUsed,
  linkedTablespaces,
  refuseArchiveWithin,
  refuseOtherCluster,
  refuseUsedWalDirectory,
} from '../../restore/backup/delta/usable-destination.ts'
import type { BackupDocuments } from '../../restore/backup/backup-documents.ts'
import type { RecoveryRequest } from '../../restore/recovery/recovery-request.ts'
import { type SettingsReport, writeRecoverySettings } from '../../restore/recovery/recovery-settings.ts'
import { restoreCommand } from '../../restore/wal/restore-command.ts'
import { type PlacedTablespace, placeTablespaces, refuseUsedFolders } from '../../restore/backup/tablespaces.ts'
import type { Storage } from '../../storage/storage.ts'
import {
  chainNames,
  chainTitle,
  countsText,
  plainBytes,
  sayWhatIsRestored,
  storedBytes,
} from '../terminal/chain-text.ts'
import type { Command, CommandContext } from '../command.ts'
import { backupToRestore } from '../settings/backup-to-restore.ts'
import { choiceJson, chooseInBackup, type ChosenDatabases, leftOutText } from '../settings/database-wish.ts'
import { readRestoreWish, type RestoreWish } from '../settings/restore-wish.ts'
import { flagArguments, ownProgram } from '../settings/calls/own-program.ts'
import { missingFiles, sayWhatIsMissing } from '../terminal/missing-files.ts'
import { nextSteps } from '../terminal/next-steps.ts'
import { deltaCountsText, deltaJson, deltaPlanJson, deltaPlanText } from '../terminal/plans/delta-restore.ts'
import { openProgress, type Progress } from '../terminal/progress.ts'
import { settingsJson, settingsText } from '../terminal/restore-text.ts'
import { StoreWaits } from '../terminal/store-waits.ts'
import { type RestoredDirectory, restoredDirectory } from '../settings/next-start.ts'
import { type NeededSettings, neededSettings } from '../settings/calls/server-environment.ts'

/** See the file's header. */
export const backupFetch: Command<'backup-fetch', 'dest' | 'name'> = {
  name: 'backup-fetch',
  positionals: [
    { name: 'dest', help: 'data directory to make; empty, or not there, but for --delta' },
    { name: 'name', help: 'name of the backup, or LATEST: with a target the newest backup that ended before it' },
  ],
  examples: [
    {
      call: 'walrx backup-fetch /srv/pgdata LATEST --recover',
      means: 'restore, so that the server recovers to the end of the archive when you start it',
    },
    {
      call: "walrx backup-fetch /srv/pgdata LATEST --target-time '2026-03-01 12:00:00+01' --target-action promote",
      means: 'restore to a point in time, and promote there',
    },
    {
      call: 'walrx backup-fetch /srv/pgdata LATEST --recover --delta',
      means: 'the same over the data directory of a stopped server: files that are as in the backup are not fetched',
    },
  ],
  async run(context) {
    const { log, options, positionals, settings, signals } = context
    const destination = destinationOf(positionals.dest)
    const wish = readRestoreWish(options, destination)
    const isOver = options.deltaRestore && (await isUsed(destination))
    const cluster = isOver ? await refuseUnusable(destination, wish) : undefined
    if (!isOver) await refuseUsedDestination(destination, wish.walDirectory)
    const waits = new StoreWaits(log)
    // Over a data directory they wait until its files are read.
    const lanes = new ThreadLanes(!options.disableFsync, options.dryRun || isOver ? 0 : lanesMax(options))
    let storage: Storage | undefined
    try {
      storage = await openStorage(options, waits.onTrouble)
      const asked = { name: positionals.name, request: wish.request, isWhole: wish.mask === undefined }
      const flags = flagArguments(settings, 'backup-fetch')
      const again = (name: string) => ['walrx', 'backup-fetch', destination, name, ...flags].map(shellWord).join(' ')
      const documents = await backupToRestore({ storage, asked, again, log, signal: signals.drain })
      sayWhatIsRestored(documents, log)
      const tablespaces = wish.mask
        ? []
        : placeTablespaces(documents.sentinel.spec, wish.mappings, destination, wish.walDirectory)
      const linked = isOver ? await checkOver(options, { cluster, destination, documents, tablespaces }) : undefined
      if (!isOver) await refuseUsedFolders(tablespaces)
      if (!wish.mask) sayWhatIsMissing(missingFiles(documents), log)
      const search = { storage, documents, log, signal: signals.drain }
      const databases = wish.databases && (await chooseInBackup(wish.databases, search))
      const restore = { ...wish, databases, lanes, storage, documents, destination, tablespaces, linked, waits }
      if (options.dryRun) await sayWhatWouldBeDone(restore, context)
      else await restoreBackup(restore, context)
      return 0
    } finally {
      await lanes.drop()
      await storage?.close()
    }
  },
  whatIsLeft({ options, positionals }) {
    const destination = resolve(positionals.dest)
    if (positionals.dest === '' || !existsSync(join(destination, incompleteMarker))) return undefined
    const again = 'run the same command again'
    const emptyIt = 'empty it and the directories of its tablespaces'
    const way = options.deltaRestore
      ? again
      : options.restoreOnly === undefined
        ? `${again} with --delta, or ${emptyIt}`
        : `${emptyIt}, then ${again}`
    return `${destination} has a part of the backup, and no server starts on it: ${way}`
  },
}

/** Throws WALRX_USAGE for an empty word, which an unset variable of a script leaves: it would mean the current directory. */
function destinationOf(word: string): string {
  if (word !== '') return resolve(word)
  throw new WalrxError('WALRX_USAGE', 'DEST is empty: it has to name the data directory', {
    hint: 'give its path; for the current directory give .',
  })
}

type Context = CommandContext<'backup-fetch', 'dest' | 'name'>

/** A restore that can begin. */
interface Restore extends Omit<RestoreWish, 'databases'> {
  readonly databases: ChosenDatabases | undefined
  readonly lanes: ThreadLanes
  readonly storage: Storage
  readonly documents: BackupDocuments
  readonly destination: string
  readonly tablespaces: readonly PlacedTablespace[]
  /** Over a data directory: the tablespaces that are where they should be, by oid. Undefined for an empty one. */
  readonly linked: ReadonlyMap<number, string> | undefined
  readonly waits: StoreWaits
}

/** @returns the system identifier of what is there, as far as it is known */
async function refuseUnusable(destination: string, { walDirectory }: RestoreWish): Promise<bigint | undefined> {
  const cluster = await clusterOf(destination)
  await refuseRunning(destination)
  await refuseUsedWalDirectory(destination, walDirectory)
  return cluster
}

/** Checks that the backup may be restored over what is there. @returns see {@link Restore.linked} */
async function checkOver(
  { filePrefix }: OptionValues<'backup-fetch'>,
  {
    cluster,
    destination,
    documents,
    tablespaces,
  }: Pick<Restore, 'destination' | 'documents' | 'tablespaces'> & { readonly cluster: bigint | undefined },
): Promise<ReadonlyMap<number, string>> {
  refuseOtherCluster(destination, cluster, documents)
  const cleared = [destination, join(destination, 'pg_wal'), ...tablespaces.map(({ location }) => location)]
  if (filePrefix !== undefined) await refuseArchiveWithin(filePrefix.replace(/^file:\/\/(localhost)?/, ''), cleared)
  return linkedTablespaces(destination, tablespaces)
}

/** The dry run of a restore into an empty directory. */
function sayWhatWouldBeRead({ databases, destination, documents }: Restore, { options, stdout }: Context): void {
  const bytesToRead = storedBytes(documents, { leftOut: databases?.files })
  if (options.json) {
    const said = {
      backup_name: documents.name,
      backups: chainNames(documents),
      destination,
      bytes_to_read: bytesToRead,
      // How much of it belongs to databases that are left out only the tars show.
      ...(databases ? choiceJson(databases) : { bytes_to_write: plainBytes(documents) }),
      ...(options.deltaRestore && { delta: deltaJson(documents, undefined) }),
    }
    stdout.write(`${formatJson(said)}\n`)
    return
  }
  const toWrite = databases ? '' : `, ${plainBytes(documents)} to write`
  stdout.write(`${chainTitle(documents)} can be restored to ${destination}: ${bytesToRead} bytes to read${toWrite}\n`)
  for (const { name } of databases?.leftOut ?? []) stdout.write(`database ${name} is left out\n`)
}

async function sayWhatWouldBeDone(restore: Restore, context: Context): Promise<void> {
  const { destination, documents, linked } = restore
  const { log, options, signals, stdout } = context
  if (!linked) {
    sayWhatWouldBeRead(restore, context)
    return
  }
  const progress = await progressOf('compare', restore, context)
  let plan: DeltaPlan
  try {
    plan = await planDelta({
      ...restore,
      linked,
      concurrency: lanesMax(options),
      isSynced: false,
      log,
      signal: signals.drain,
      onCompared: (bytes, total) => progress.update(bytes, total),
    })
  } finally {
    progress.stop()
  }
  if (options.json) stdout.write(`${formatJson(deltaPlanJson(documents, destination, plan))}\n`)
  else for (const line of deltaPlanText(documents, destination, plan)) stdout.write(`${line}\n`)
}

function progressOf(what: string, { waits }: Restore, { log, settings, stderr }: Context): Promise<Progress> {
  return openProgress({ what, stream: stderr, environment: settings.environment, log, waits })
}

async function restoreBackup(restore: Restore, context: Context): Promise<void> {
  const { log, options, settings, stdout } = context
  const { databases, destination, documents, request } = restore
  const { plan, report, summary } = await fetchAll(restore, context)
  const which = summary.increments > 0 ? 'each whole file' : 'each'
  const checked = summary.checked ? `, ${which} as the server's manifest says` : ''
  const needed = request.restoreCommand === undefined && !restore.mask ? neededSettings(settings) : undefined
  if (request.recover && needed) sayWhatTheServerNeeds(needed, log)
  const backups = chainNames(documents)
  const { name } = documents
  const locations = restore.tablespaces.map(({ location }) => location)
  const restored = restore.mask ? undefined : await restoredDirectory(settings, destination, locations)
  if (restored) warnOfRoot(restored, log)
  if (options.json) {
    const { configuration, outside, paths } = missingFiles(documents)
    const missing = { left_out: [...paths], outside, configuration_missing: [...configuration] }
    const delta = options.deltaRestore ? { delta: deltaJson(documents, plan) } : {}
    const more = { ...delta, ...(databases && choiceJson(databases)), ...missing, ...settingsJson(report) }
    const said = { backup_name: name, backups, destination, ...summary, ...more }
    stdout.write(`${formatJson(said)}\n`)
    return
  }
  const counts = plan ? deltaCountsText(documents, plan, summary) : countsText(summary)
  stdout.write(`${chainTitle(documents)} is restored ${plan ? 'over' : 'to'} ${destination}: ${counts}${checked}\n`)
  for (const line of settingsText(report)) stdout.write(`${line}\n`)
  for (const line of databases ? leftOutText(databases) : []) stdout.write(`${line}\n`)
  if (restored) for (const line of stepsAfter(restored, request, report, needed)) stdout.write(`${line}\n`)
}

/** What was done; `plan` where it was done over a data directory. */
interface Fetched {
  readonly summary: ReadSummary
  readonly report: SettingsReport | undefined
  readonly plan?: DeltaPlan
}

async function fetchAll(restore: Restore, context: Context): Promise<Fetched> {
  const { databases, destination, documents, lanes, linked, mask, request, storage, tablespaces, walDirectory } =
    restore
  const { log, options, settings, signals } = context
  const progress = await progressOf('restore', restore, context)
  const leftOut = databases?.files
  let totalBytes = storedBytes(documents, { leftOut })
  const task = {
    storage,
    documents,
    destination,
    concurrency: lanesMax(options),
    openLane: lanes.open,
    fsync: !options.disableFsync,
    log,
    signal: signals.drain,
    onProgress: (bytes: number) => progress.update(bytes, totalBytes),
  }
  const { main, node } = ownProgram()
  const command = restoreCommand([node, main], flagArguments(settings, 'wal-fetch'))
  let report: SettingsReport | undefined
  const writeSettings = async () => {
    report = await writeRecoverySettings(destination, request, command, { hasLeftOut: leftOut !== undefined })
  }
  const whole = { ...task, leftOut, tablespaces, walDirectory, writeSettings }
  const comparing = linked && (await progressOf('compare', restore, context))
  try {
    if (mask) return { summary: await fetchFiles({ ...task, mask }), report }
    if (!linked) return { summary: await fetchBackup(whole), report }
    const onPlan = ({ parts }: DeltaPlan) => {
      comparing?.stop()
      totalBytes = parts.reduce((sum, { size }) => sum + size, 0)
    }
    const onCompared = (bytes: number, total: number) => comparing?.update(bytes, total)
    const { plan, ...summary } = await fetchOver({ ...whole, linked, onCompared, onPlan })
    return { summary, report, plan }
  } finally {
    comparing?.stop()
    progress.stop()
  }
}

/** PostgreSQL refuses to run as root, and on files of another user. */
function warnOfRoot({ dataDirectory, isRoot, outside }: RestoredDirectory, log: Logger): void {
  if (!isRoot) return
  const paths = [dataDirectory, ...outside].map(shellWord).join(' ')
  log.warn('the restored files belong to root: PostgreSQL refuses them', {
    hint: `give them to the user that PostgreSQL runs as, mostly: chown -R postgres: ${paths}`,
  })
}

/** How the server is started, as lines of text. */
function stepsAfter(
  { restoreCommandCall, ...facts }: RestoredDirectory,
  request: RecoveryRequest,
  report: SettingsReport | undefined,
  needed: NeededSettings | undefined,
): string[] {
  return nextSteps({
    ...facts,
    variables: needed?.environment ?? [],
    setUp: request.recover || request.keep?.includes('standby.signal') ? undefined : restoreCommandCall,
    isLedAway: report?.elsewhere.some(({ name }) => name === 'data_directory') ?? false,
    pauses: request.target !== undefined && request.action === 'pause',
  })
}

/** The restore_command runs in the server's environment, not in this one. */
function sayWhatTheServerNeeds({ configFile, environment }: NeededSettings, log: Logger): void {
  if (environment.length > 0) {
    log.warn('wal-fetch needs these settings in the environment of the restored server', {
      environment: environment.map(({ name }) => name),
    })
  }
  if (configFile.length > 0)
    log.warn("wal-fetch needs these settings of the config file: the server's user must be able to read it", {
      configFile,
    })
}

/**
 * Tars at the same time: each costs a thread and 20 MB, fills a core, and beyond a few the disk is the limit. One more than
 * there are cores, because parts differ in size, and the cores that are left at the end would have nothing to do.
 */
function lanesMax({ downloadConcurrency }: Pick<OptionValues<'backup-fetch'>, 'downloadConcurrency'>): number {
  return Math.min(downloadConcurrency, availableParallelism() + 1, 4)
}
