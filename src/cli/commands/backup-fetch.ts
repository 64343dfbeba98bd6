/** `walrx backup-fetch DEST NAME`: a backup as a data directory, and the recovery that it goes into. */
import { existsSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { isAbsolute, join, relative, resolve } from 'node:path'
import { openStorage } from '../../config/open-storage.ts'
import { valueSeparator } from '../../config/options/option-types.ts'
import type { OptionValues } from '../../config/options/options.ts'
import type { Logger } from '../../observe/log.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import type { ReadSummary } from '../../restore/backup/backup-reader.ts'
import { ThreadLanes } from '../../restore/backup/parts/thread-lane.ts'
import { fetchBackup, fetchFiles, incompleteMarker, refuseUsedDestination } from '../../restore/backup/backup-fetch.ts'
import { fileMask } from '../../restore/backup/file-mask.ts'
import { type BackupDocuments, chainOf } from '../../restore/backup/backup-documents.ts'
import { parseRecoveryRequest, type RecoveryRequest } from '../../restore/recovery/recovery-request.ts'
import { type SettingsReport, writeRecoverySettings } from '../../restore/recovery/recovery-settings.ts'
import { restoreCommand } from '../../restore/wal/restore-command.ts'
import {
  parseMappings,
  type PlacedTablespace,
  placeTablespaces,
  refuseUsedFolders,
} from '../../restore/backup/tablespaces.ts'
import type { Storage } from '../../storage/storage.ts'
import { chainNames, chainTitle, countsText, plainBytes, storedBytes } from '../terminal/chain-text.ts'
import type { Command, CommandContext } from '../command.ts'
import { backupToRestore } from '../settings/backup-to-restore.ts'
import {
  choiceJson,
  chooseInBackup,
  type ChosenDatabases,
  databaseNames,
  leftOutText,
} from '../settings/database-wish.ts'
import { flagArguments, ownProgram } from '../settings/calls/own-program.ts'
import { type MissingFiles, missingFiles, whereConfigurationWas } from '../terminal/missing-files.ts'
import { nextSteps } from '../terminal/next-steps.ts'
import { openProgress } from '../terminal/progress.ts'
import { settingsJson, settingsText } from '../terminal/restore-text.ts'
import { StoreWaits } from '../terminal/store-waits.ts'
import { type RestoredDirectory, restoredDirectory } from '../settings/next-start.ts'
import { type NeededSettings, neededSettings } from '../settings/calls/server-environment.ts'

/** See the file's header. */
export const backupFetch: Command<'backup-fetch', 'dest' | 'name'> = {
  name: 'backup-fetch',
  positionals: [
    { name: 'dest', help: 'data directory to make; empty, or not there' },
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
  ],
  async run(context) {
    const { log, options, positionals, settings, signals } = context
    const destination = resolve(positionals.dest)
    const wish = readWish(options, destination)
    await refuseUsedDestination(destination, wish.walDirectory)
    const waits = new StoreWaits(log)
    const lanes = new ThreadLanes(!options.disableFsync, options.dryRun ? 0 : lanesMax(options))
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
      await refuseUsedFolders(tablespaces)
      if (!wish.mask) sayWhatIsMissing(missingFiles(documents), log)
      const search = { storage, documents, log, signal: signals.drain }
      const databases = wish.databases && (await chooseInBackup(wish.databases, search))
      const restore = { ...wish, databases, lanes, storage, documents, destination, tablespaces, waits }
      if (options.dryRun) sayItCanBeRestored(restore, context)
      else await restoreBackup(restore, context)
      return 0
    } finally {
      await lanes.drop()
      await storage?.close()
    }
  },
  whatIsLeft({ positionals }) {
    const destination = resolve(positionals.dest)
    if (!existsSync(join(destination, incompleteMarker))) return undefined
    return `${destination} has a part of the backup, and no server starts on it: empty it and the directories of its tablespaces, then restore again`
  },
}

type Context = CommandContext<'backup-fetch', 'dest' | 'name'>

/** What the options ask for. */
interface Wish {
  readonly request: RecoveryRequest
  readonly mappings: readonly (readonly [old: string, now: string])[]
  /** Undefined for the whole backup. */
  readonly mask: ((path: string) => boolean) | undefined
  /** Names of databases; undefined for all. */
  readonly databases: readonly string[] | undefined
  /** The directory that pg_wal is to be a link to. */
  readonly walDirectory: string | undefined
}

/** A restore that can begin. */
interface Restore extends Omit<Wish, 'databases'> {
  readonly databases: ChosenDatabases | undefined
  readonly lanes: ThreadLanes
  readonly storage: Storage
  readonly documents: BackupDocuments
  readonly destination: string
  readonly tablespaces: readonly PlacedTablespace[]
  readonly waits: StoreWaits
}

/** Throws WALRX_USAGE for options that contradict each other. */
function readWish(options: OptionValues<'backup-fetch'>, destination: string): Wish {
  const request = parseRecoveryRequest(options)
  const mappings = (options.tablespaceMapping ?? '').split(valueSeparator).flatMap(parseMappings)
  const { walDirectory } = options
  const mask = options.mask === undefined ? undefined : fileMask(options.mask)
  if (mask && (request.recover || mappings.length > 0 || walDirectory !== undefined)) {
    throw new WalrxError('WALRX_USAGE', '--mask restores single files, without a recovery and without tablespaces', {
      hint: 'leave out --mask, or leave out --recover, the target options, --tablespace-mapping and --waldir',
    })
  }
  const { restoreOnly } = options
  if (mask && restoreOnly !== undefined) {
    throw new WalrxError('WALRX_USAGE', '--mask restores single files, and --restore-only a cluster', {
      hint: 'leave out one of them',
    })
  }
  const databases = restoreOnly === undefined ? undefined : databaseNames(restoreOnly)
  return { request, mappings, mask, databases, walDirectory: checkedWalDirectory(walDirectory, destination) }
}

/** As pg_basebackup's --waldir. */
function checkedWalDirectory(text: string | undefined, destination: string): string | undefined {
  if (text === undefined) return undefined
  const inside = relative(destination, text)
  const hint = 'give the absolute path of a directory outside the data directory'
  if (!isAbsolute(text)) throw new WalrxError('WALRX_USAGE', `--waldir ${text} is not an absolute path`, { hint })
  if (!/^\.\.(\/|$)/.test(inside))
    throw new WalrxError('WALRX_USAGE', `--waldir ${text} is in the data directory`, { hint })
  return resolve(text)
}

function sayItCanBeRestored({ databases, destination, documents }: Restore, { stdout }: Context): void {
  const toWrite = databases ? '' : `, ${plainBytes(documents)} to write`
  const sizes = `${storedBytes(documents, databases?.files)} bytes to read${toWrite}`
  stdout.write(`${chainTitle(documents)} can be restored to ${destination}: ${sizes}\n`)
  for (const { name } of databases?.leftOut ?? []) stdout.write(`database ${name} is left out\n`)
}

async function restoreBackup(restore: Restore, context: Context): Promise<void> {
  const { log, options, settings, stderr, stdout } = context
  const { databases, destination, documents, request, waits } = restore
  const progress = await openProgress({
    what: 'restore',
    stream: stderr,
    environment: settings.environment,
    log,
    waits,
  })
  try {
    const totalBytes = storedBytes(documents, databases?.files)
    const { report, summary } = await fetchAll(restore, context, (bytes) => progress.update(bytes, totalBytes))
    progress.stop()
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
      const chosen = databases ? choiceJson(databases) : {}
      const said = {
        backup_name: name,
        backups,
        destination,
        ...summary,
        ...chosen,
        ...missing,
        ...settingsJson(report),
      }
      stdout.write(`${formatJson(said)}\n`)
      return
    }
    stdout.write(`${chainTitle(documents)} is restored to ${destination}: ${countsText(summary)}${checked}\n`)
    for (const line of settingsText(report)) stdout.write(`${line}\n`)
    for (const line of databases ? leftOutText(databases) : []) stdout.write(`${line}\n`)
    if (restored) for (const line of stepsAfter(restored, request, report, needed)) stdout.write(`${line}\n`)
  } finally {
    progress.stop()
  }
}

async function fetchAll(
  { databases, destination, documents, lanes, mask, request, storage, tablespaces, walDirectory }: Restore,
  { log, options, settings, signals }: Context,
  onProgress: (bytes: number) => void,
): Promise<{ readonly summary: ReadSummary; readonly report: SettingsReport | undefined }> {
  const task = {
    storage,
    documents,
    destination,
    concurrency: lanesMax(options),
    openLane: lanes.open,
    fsync: !options.disableFsync,
    log,
    signal: signals.drain,
    onProgress,
  }
  if (mask) return { summary: await fetchFiles({ ...task, mask }), report: undefined }
  const { main, node } = ownProgram()
  const command = restoreCommand([node, main], flagArguments(settings, 'wal-fetch'))
  let report: SettingsReport | undefined
  const writeSettings = async () => {
    report = await writeRecoverySettings(destination, request, command)
  }
  const leftOut = databases?.files
  const summary = await fetchBackup({ ...task, leftOut, tablespaces, walDirectory, writeSettings })
  return { summary, report }
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

/** Two lines at most, before the hours that a restore may take. */
function sayWhatIsMissing(missing: MissingFiles, log: Logger): void {
  const { configuration, paths } = missing
  if (paths.length > 0) log.warn('the server left files out of the backup: links and special files', { files: paths })
  if (configuration.length === 0) return
  const files = configuration
  log.warn('the backup has no such configuration file', { files, hint: whereConfigurationWas(missing) })
}

function sayWhatIsRestored(documents: BackupDocuments, log: Logger): void {
  const chain = chainOf(documents)
  log.info('restoring', {
    name: documents.name,
    ...(chain.length > 1 && { backups: chain.map((each) => each.name) }),
    parts: chain.reduce((sum, { parts }) => sum + parts.length, 0),
    manifest: documents.manifest !== undefined,
  })
}
