/**
 * The settings of a recovery in a restored data directory: lines of postgresql.auto.conf, which overrides
 * postgresql.conf, and recovery.signal.
 */
import fs from 'node:fs/promises'
import { join } from 'node:path'
import { WalrxError } from '../../primitives/errors.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import { SyncedDirectories } from '../../storage/file/synced-directories.ts'
import type { RecoveryRequest, RecoveryTarget } from './recovery-request.ts'
import { formatTimestamp } from './recovery-time.ts'

const settingsFile = 'postgresql.auto.conf'

/** The server's own temporary name (guc.c): no base backup contains it. */
const temporaryFile = 'postgresql.auto.conf.tmp'

/** The mode that BASE_BACKUP gives such files, for a backup that has no such file. */
const fileMode = 0o600

const targetNames = {
  immediate: 'recovery_target',
  lsn: 'recovery_target_lsn',
  name: 'recovery_target_name',
  time: 'recovery_target_time',
  xid: 'recovery_target_xid',
} as const satisfies Record<RecoveryTarget['kind'], string>

/** One line: name and value. */
type Setting = readonly [name: string, value: string]

/**
 * Writes the requested settings into a restored data directory, before any server has started in it. They are durable
 * when it resolves. Call this before the directory can be started: a server that starts without recovery.signal ends
 * recovery where the backup ends, and promotes. May be repeated.
 *
 * Removes settings of the same names that came with the backup, and standby.signal, which overrides recovery.signal:
 * the backup may be of a standby, or of a cluster that was itself recovered.
 * @param restoreCommand the value of restore_command where the request has none
 * @throws WALRX_DESTINATION
 */
export async function writeRecoverySettings(
  dataDirectory: string,
  request: RecoveryRequest,
  restoreCommand: string,
): Promise<void> {
  const settings = recoverySettings(request, restoreCommand)
  try {
    if (settings.length > 0) await replaceSettings(dataDirectory, settings)
    if (!request.recover) return
    await fs.rm(join(dataDirectory, 'standby.signal'), { force: true })
    await writeDurably(join(dataDirectory, 'recovery.signal'), '', fileMode)
    await syncDirectory(dataDirectory)
  } catch (error) {
    throw new WalrxError('WALRX_DESTINATION', `${dataDirectory}: ${(error as Error).message}`, { cause: error })
  }
}

/**
 * The settings for a request, in the order in which they must be written.
 *
 * All target settings are written, the unused ones with an empty value, so that one in postgresql.conf doesn't become a
 * second target ("multiple recovery targets specified"). The used one comes last: up to PostgreSQL 17 an empty value
 * clears any target that was set before it (assign_recovery_target_lsn and similar functions).
 */
export function recoverySettings(request: RecoveryRequest, restoreCommand: string): Setting[] {
  const settings: Setting[] = []
  if (request.archiveMode === 'off') settings.push(['archive_mode', 'off'])
  if (!request.recover) return settings
  const { action, inclusive, target, timeline } = request
  settings.push(['restore_command', request.restoreCommand ?? restoreCommand])
  settings.push(['recovery_target_timeline', String(timeline)])
  settings.push(['recovery_target_inclusive', inclusive ? 'on' : 'off'], ['recovery_target_action', action])
  for (const name of Object.values(targetNames)) {
    if (!target || name !== targetNames[target.kind]) settings.push([name, ''])
  }
  if (target) settings.push([targetNames[target.kind], targetText(target)])
  return settings
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

/** A value as a quoted string of a configuration file (DeescapeQuotedString in guc-file.l). */
export function quotedSetting(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

/** Writes the settings at the end of postgresql.auto.conf, and removes older ones of the same names. */
async function replaceSettings(dataDirectory: string, settings: readonly Setting[]): Promise<void> {
  const path = join(dataDirectory, settingsFile)
  const before = await existing(path)
  const names = new Set(settings.map(([name]) => name))
  // latin1 keeps every byte: values may be in any encoding.
  const kept = before.bytes.toString('latin1').split('\n')
  const lines = kept.filter((line) => !names.has(settingName(line)))
  if (lines.at(-1) === '') lines.pop()
  const added = settings.map(([name, value]) => Buffer.from(`${name} = ${quotedSetting(value)}\n`).toString('latin1'))
  const text = lines.map((line) => `${line}\n`).join('') + added.join('')
  const temporary = join(dataDirectory, temporaryFile)
  await writeDurably(temporary, Buffer.from(text, 'latin1'), before.mode)
  await fs.rename(temporary, path)
  await syncDirectory(dataDirectory)
}

/** The setting that a line sets, in lower case; '' for comments and blank lines. The `=` may be left out. */
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
