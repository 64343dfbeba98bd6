/**
 * The settings of a recovery in a restored data directory: lines of postgresql.auto.conf, which goes before
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

/** The server's own name for it (guc.c): no base backup has it. */
const temporaryFile = 'postgresql.auto.conf.tmp'

/** What BASE_BACKUP gives such files, where the backup has none to take the mode from. */
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
 * Writes what was asked for into a restored data directory that no server has started in. Durable when it resolves, and
 * to be called before the directory becomes startable: a server that started without recovery.signal would promote
 * itself where the backup ends. May be repeated.
 *
 * Settings of the same names that came with the backup are dropped, so is standby.signal, which goes before
 * recovery.signal: the backup may be of a standby, or of a cluster that was itself recovered.
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
 * The lines that a request stands for, in the order in which they must be.
 *
 * All of the targets are named, those that are none with an empty value, so that one in postgresql.conf doesn't make a
 * second ("multiple recovery targets specified"); the real one is the last, because until PostgreSQL 17 an empty value
 * takes back whatever target came before it (assign_recovery_target_lsn and its like).
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

/** A text as it stands between quotes in a configuration file (DeescapeQuotedString in guc-file.l). */
export function quotedSetting(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
}

/** Puts the settings at the end of postgresql.auto.conf, in place of older ones. */
async function replaceSettings(dataDirectory: string, settings: readonly Setting[]): Promise<void> {
  const path = join(dataDirectory, settingsFile)
  const before = await existing(path)
  const names = new Set(settings.map(([name]) => name))
  // Bytes as they are: values may be in any encoding.
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
    // The mode of open is cut by the umask, and says nothing about a file that is there.
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
