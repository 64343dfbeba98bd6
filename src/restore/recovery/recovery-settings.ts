/**
 * The settings of a restored data directory, so that the cluster is its own:
 *
 * - recovery.signal holds the settings of the recovery. postgresql.auto.conf includes it, so they override
 *   postgresql.conf, also one outside the data directory. PostgreSQL removes it when the recovery ends: no target and no
 *   restore_command outlives the recovery, whenever the server is killed. A standby that pg_basebackup makes of the
 *   cluster would end its recovery at an old target.
 * - postgresql.auto.conf turns off what came with the backup from the life of the original (source-settings.ts).
 *
 * ALTER SYSTEM during the recovery copies the settings of recovery.signal into postgresql.auto.conf, in place of the line
 * that includes it (AlterSystemSetConfigFile in guc.c). So recovery_end_command removes what is left there.
 */
import fs from 'node:fs/promises'
import { join } from 'node:path'
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import { formatTimestamp } from '../../postgres/timestamp.ts'
import { SyncedDirectories } from '../../storage/file/synced-directories.ts'
import { autoFile, type FoundSetting, parseSettingLine, quotedSetting, readConfiguration } from './configuration.ts'
import { type PathElsewhere, pathsElsewhere } from './paths-elsewhere.ts'
import type { RecoveryRequest, RecoveryTarget } from './recovery-request.ts'
import {
  actingInRecovery,
  actingSettings,
  archivingBy,
  isKnownTo,
  type Neutralised,
  type SourceSetting,
  sourceSettings,
  type TurnedOff,
} from './source-settings.ts'

/** The server's own temporary name (guc.c): no base backup contains it. */
const temporaryFile = 'postgresql.auto.conf.tmp'

/** The mode that BASE_BACKUP gives such files, for a backup that has no such file. */
const fileMode = 0o600

const signalFile = 'recovery.signal'
const signalFiles = ['standby.signal', signalFile] as const

/** Comments of walrx in postgresql.auto.conf begin like this; those of an earlier restore go. */
const comment = '# walrx: '

/** Also the file that recovery.signal becomes where it is renamed to make a standby. */
const includeLines = signalFiles.map((name) => `include_if_exists = '${name}'`)

const targetNames = {
  immediate: 'recovery_target',
  lsn: 'recovery_target_lsn',
  name: 'recovery_target_name',
  time: 'recovery_target_time',
  xid: 'recovery_target_xid',
} as const satisfies Record<RecoveryTarget['kind'], string>

/**
 * What the recovery_end_command runs, in the data directory: it removes recovery.signal, which PostgreSQL leaves where
 * standby.signal was beside it, so that the next start would be a recovery without its settings. And it removes from postgresql.auto.conf the line that includes
 * recovery.signal, and targets and commands of the recovery that ALTER SYSTEM has copied. Lines that turn a setting off
 * stay. It always succeeds: PostgreSQL takes a status of 126 and above for the end of the server.
 */
const cleaning = [
  `rm -f ${signalFile}; `,
  'grep -Ev "^(',
  [
    `include_if_exists = .(recovery|standby).signal.`,
    `${comment}the recovery`,
    `recovery_target(_lsn|_name|_time|_xid)? = '.+'`,
    `recovery_target_timeline = '([0-9]|current)`,
    `recovery_target_inclusive = 'off'`,
    `recovery_target_action = '[^p]`,
    `recovery_target_action = 'promote'`,
    `recovery_end_command = '.+'`,
    `restore_command = '.+wal-fetch.+--recovery-pid`,
  ].join('|'),
  `)" ${autoFile} >${autoFile}.walrx; [ $? -le 1 ] && `,
  `{ sync ${autoFile}.walrx; mv -f ${autoFile}.walrx ${autoFile}; sync .; } || rm -f ${autoFile}.walrx || :`,
].join('')

/** One line: name and value. */
type Setting = readonly [name: string, value: string]

/** What {@link writeRecoverySettings} has found and done. */
export interface SettingsReport {
  /** Settings of the source that would have acted. */
  readonly turnedOff: readonly TurnedOff[]
  /** Signal files of the source that were removed. */
  readonly removed: readonly string[]
  /** archive_command or archive_library, where the restored cluster archives by it as the source did. */
  readonly archivesBy: string | undefined
  /** Paths that the files name outside of the directory. */
  readonly elsewhere: readonly PathElsewhere[]
}

/**
 * Writes the requested settings into a restored data directory, before any server has started in it. They are durable
 * when it resolves. Call this before the directory can be started: a server that starts without recovery.signal ends
 * recovery where the backup ends, and promotes. May be repeated.
 *
 * Turns settings of the source's own life off, and removes its signal files: standby.signal overrides recovery.signal.
 * The backup may be of a standby, or of a cluster that was itself recovered.
 * @param restoreCommand the value of restore_command where the request has none
 * @param options `hasLeftOut`: databases are left out, and the recovery has to pass over their pages
 * @throws WALRX_DESTINATION
 */
export async function writeRecoverySettings(
  dataDirectory: string,
  request: RecoveryRequest,
  restoreCommand: string,
  { hasLeftOut = false }: { readonly hasLeftOut?: boolean } = {},
): Promise<SettingsReport> {
  try {
    const configuration = await readConfiguration(dataDirectory)
    const found = configuration.settings.filter(({ file }) => !isSignalFile(file))
    const wanted = await settingsToTurnOff(dataDirectory, request)
    const acting = actingSettings(found, wanted)
    await rewriteAutoFile(dataDirectory, request, wanted, acting)
    const removed = await removeSignals(dataDirectory, request)
    if (request.recover) {
      const settings = [...(await prefetchOff(dataDirectory, request)), ...recoverySettings(request, restoreCommand)]
      if (hasLeftOut) settings.unshift(passOverInvalid)
      const text = signalText(settings, wanted, keptEndCommand(found, request))
      await writeDurably(join(dataDirectory, signalFile), Buffer.from(text, 'latin1'), fileMode)
    }
    if (request.recover || removed.length > 0) await syncDirectory(dataDirectory)
    return {
      turnedOff: acting.map(({ files, name }) => ({ name, files })),
      removed,
      archivesBy: request.archiveMode === 'off' ? undefined : archivingBy(found),
      elsewhere: await pathsElsewhere(dataDirectory, configuration),
    }
  } catch (error) {
    throw new WalrxError('WALRX_DESTINATION', `${dataDirectory}: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * Records may change a page of a database that is left out without an image of it: without checksums a page that becomes
 * all-visible (heap_xlog_visible), and anything with full_page_writes off. The recovery would end with a PANIC at the first one.
 */
const passOverInvalid: Setting = ['ignore_invalid_pages', 'on']

/** The first version that has recovery_prefetch. */
const majorWithPrefetch = 15

/**
 * A recovery to the first consistent point reads nothing after that, unless it looks ahead for blocks to prefetch. A
 * retention rule may have kept just the WAL that makes the backup consistent, and then asking for more would end the
 * recovery: later segments are there.
 */
async function prefetchOff(dataDirectory: string, { target }: RecoveryRequest): Promise<Setting[]> {
  const major = await majorOf(dataDirectory)
  if (target?.kind !== 'immediate' || major === undefined || major < majorWithPrefetch) return []
  return [['recovery_prefetch', 'off']]
}

async function majorOf(dataDirectory: string): Promise<number | undefined> {
  const version = await fs.readFile(join(dataDirectory, 'PG_VERSION'), 'latin1').catch(() => '')
  return Number.parseInt(version, 10) || undefined
}

/** The settings of the source that may not act in the restored cluster. */
async function settingsToTurnOff(dataDirectory: string, request: RecoveryRequest): Promise<SourceSetting[]> {
  const major = (await majorOf(dataDirectory)) ?? Infinity
  const isClone = request.archiveMode === 'off'
  return sourceSettings.filter((setting) => {
    const isKept = request.keep?.includes(setting.name) ?? false
    return isKnownTo(setting, major) && !isKept && (isClone || !setting.archives)
  })
}

/** The source's own recovery_end_command, in latin1, where it is to run nevertheless. */
function keptEndCommand(found: readonly FoundSetting[], { keep }: RecoveryRequest): string {
  const name = 'recovery_end_command'
  return (keep?.includes(name) && found.findLast((setting) => setting.name === name)?.value) || ''
}

/**
 * The settings for a recovery, in the order in which they must be written.
 *
 * All target settings are written, the unused ones with an empty value, so that one in postgresql.conf doesn't become a
 * second target ("multiple recovery targets specified"). The used one comes last: up to PostgreSQL 17 an empty value
 * clears any target that was set before it (assign_recovery_target_lsn and similar functions).
 */
export function recoverySettings(request: RecoveryRequest, restoreCommand: string): Setting[] {
  const { action, inclusive, target, timeline } = request
  const settings: Setting[] = [
    ['restore_command', request.restoreCommand ?? restoreCommand],
    ['recovery_target_timeline', String(timeline)],
    ['recovery_target_inclusive', inclusive ? 'on' : 'off'],
    ['recovery_target_action', action],
  ]
  for (const name of Object.values(targetNames)) {
    if (!target || name !== targetNames[target.kind]) settings.push([name, ''])
  }
  if (target) settings.push([targetNames[target.kind], targetText(target)])
  return settings
}

/** The text of recovery.signal, in latin1. Also turns off what a configuration outside the data directory may set. */
function signalText(recovery: readonly Setting[], wanted: readonly SourceSetting[], endCommand: string): string {
  const off = wanted.filter(({ name }) => actingInRecovery.includes(name) && name !== 'recovery_end_command')
  const ending = endCommand === '' ? cleaning : `{ ${cleaning}; }; ${endCommand}`
  return [
    '# The settings of this recovery, by walrx backup-fetch. postgresql.auto.conf includes this file, and PostgreSQL',
    '# removes it when the recovery ends. To change them, stop the server and edit this file; where ALTER SYSTEM has put',
    '# copies of them into postgresql.auto.conf, edit those. To make a standby, rename this file to',
    '# standby.signal, or create that one beside it.',
    `recovery_end_command = ${quotedSetting(ending)}`,
    ...off.map((setting) => `${setting.name} = ${quotedSetting(setting.off)}`),
    ...recovery.map(([name, value]) => `${name} = ${quotedSetting(bytesOf(value))}`),
    '',
  ].join('\n')
}

/** A text as latin1 that has the bytes of its UTF-8. */
function bytesOf(text: string): string {
  return Buffer.from(text).toString('latin1')
}

function targetText(target: RecoveryTarget): string {
  switch (target.kind) {
    case 'time':
      return formatTimestamp(target.time)
    case 'lsn':
      return formatLsn(target.lsn)
    case 'name':
      return target.name
    case 'xid':
      return String(target.xid)
    case 'immediate':
      return 'immediate'
    default:
      return target satisfies never
  }
}

/**
 * Rewrites postgresql.auto.conf where something in it must change: lines of `wanted` become comments, and what another
 * file sets is overridden at the end.
 */
async function rewriteAutoFile(
  dataDirectory: string,
  { archiveMode, recover }: RecoveryRequest,
  wanted: readonly SourceSetting[],
  acting: readonly Neutralised[],
): Promise<void> {
  const path = join(dataDirectory, autoFile)
  const before = await existing(path)
  const gone = new Set([...wanted.map(({ name }) => name), ...(archiveMode === 'off' ? ['archive_mode'] : [])])
  const kept: string[] = []
  const notes: string[] = []
  // latin1 keeps every byte: values may be in any encoding.
  const lines = before.bytes.toString('latin1').split('\n')
  if (lines.at(-1) === '') lines.pop()
  for (const line of lines) {
    const setting = parseSettingLine(line)
    if (line.startsWith(comment) || (setting?.name === 'include_if_exists' && isSignalFile(setting.value))) continue
    if (!gone.has(settingName(line))) kept.push(line)
    else if (acting.some(({ name }) => name === setting?.name)) notes.push(`${comment}was here: ${line.trim()}`)
  }
  const overrides = acting.filter(({ mustOverride }) => mustOverride).map(({ name, setting }) => [name, setting.off])
  if (archiveMode === 'off') overrides.unshift(['archive_mode', 'off'])
  const added = [
    ...(acting.length > 0
      ? [`${comment}these belong to the life of the server that was backed up; turned off here:`]
      : []),
    ...notes,
    ...overrides.map(([name = '', value = '']) => `${name} = ${quotedSetting(value)}`),
    ...(recover
      ? [`${comment}the recovery has its settings in ${signalFile}, and they go with it`, ...includeLines]
      : []),
  ]
  if (added.length === 0 && kept.length === lines.length) return
  const text = [...kept, ...added].map((line) => `${line}\n`).join('')
  const temporary = join(dataDirectory, temporaryFile)
  await writeDurably(temporary, Buffer.from(text, 'latin1'), before.mode)
  await fs.rename(temporary, path)
  await syncDirectory(dataDirectory)
}

function isSignalFile(name: string): boolean {
  return signalFiles.some((each) => each === name)
}

/** Removes the signal files of the source; returns the names of those that were there. */
async function removeSignals(dataDirectory: string, { keep }: RecoveryRequest): Promise<string[]> {
  const removed: string[] = []
  for (const name of signalFiles) {
    if (keep?.includes(name)) continue
    const wasThere = await fs.unlink(join(dataDirectory, name)).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return false
        throw error
      },
    )
    if (wasThere) removed.push(name)
  }
  return removed
}

/** The setting that a line sets, in lower case, also where the server would refuse the line; '' for all others. */
function settingName(line: string): string {
  return /^\s*([a-z_][\w$]*)/i.exec(line)?.[1]?.toLowerCase() ?? ''
}

async function existing(path: string): Promise<{ bytes: Buffer; mode: number }> {
  try {
    return { bytes: await fs.readFile(path), mode: (await fs.stat(path)).mode & 0o777 }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return { bytes: Buffer.alloc(0), mode: fileMode }
    throw error
  }
}

async function writeDurably(path: string, content: Uint8Array | string, mode: number): Promise<void> {
  const file = await fs.open(path, 'w', mode)
  try {
    // The umask limits the mode of open, which also has no effect on an existing file.
    await file.chmod(mode)
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
}

/** Makes the names in the directory durable. */
async function syncDirectory(path: string): Promise<void> {
  await new SyncedDirectories(fs, path, true).sync(path)
}
