/**
 * Settings that belong to the life of the server that was backed up: its own recovery, its life as a standby, its
 * archiving. In a restored cluster they would act on what is not its own: archive_cleanup_command deletes WAL of the
 * original's archive, primary_slot_name takes the original's slot, an old recovery target ends the recovery.
 */
import type { FoundSetting } from './configuration.ts'
import { autoFile } from './configuration.ts'

/** One of these settings. */
export interface SourceSetting {
  readonly name: string
  /** The value with which it does nothing: PostgreSQL's default. */
  readonly off: string
  /** The major versions that know it; another refuses to start with its name. */
  readonly majorMin?: number
  readonly majorMax?: number
  /** True for what acts on the archive: turned off only where a clone is asked for. */
  readonly archives?: true
  /** True for what a recovery sets itself. */
  readonly ofRecovery?: true
}

/** The settings (guc_tables.c). Before PostgreSQL 12 those of a recovery were no settings at all. */
export const sourceSettings: readonly SourceSetting[] = [
  { name: 'archive_cleanup_command', off: '' },
  { name: 'recovery_end_command', off: '' },
  { name: 'recovery_min_apply_delay', off: '0' },
  { name: 'primary_conninfo', off: '' },
  { name: 'primary_slot_name', off: '' },
  { name: 'promote_trigger_file', off: '', majorMax: 15 },
  { name: 'restore_command', off: '', ofRecovery: true },
  { name: 'recovery_target', off: '', ofRecovery: true },
  { name: 'recovery_target_lsn', off: '', ofRecovery: true },
  { name: 'recovery_target_name', off: '', ofRecovery: true },
  { name: 'recovery_target_time', off: '', ofRecovery: true },
  { name: 'recovery_target_xid', off: '', ofRecovery: true },
  { name: 'recovery_target_timeline', off: 'latest', ofRecovery: true },
  { name: 'recovery_target_inclusive', off: 'on', ofRecovery: true },
  { name: 'recovery_target_action', off: 'pause', ofRecovery: true },
  { name: 'archive_command', off: '', archives: true },
  { name: 'archive_library', off: '', majorMin: 15, archives: true },
]

/** Settings of the source that would act during a recovery of a server that is no standby. */
export const actingInRecovery: readonly string[] = [
  'archive_cleanup_command',
  'recovery_end_command',
  'recovery_min_apply_delay',
  'promote_trigger_file',
]

/** The first version with recovery settings in postgresql.conf. */
const majorWithSettings = 12

/** True where a server of this version knows the setting. */
export function isKnownTo({ majorMin, majorMax }: SourceSetting, major: number): boolean {
  return major >= (majorMin ?? majorWithSettings) && major <= (majorMax ?? Infinity)
}

/** A setting that the source's files set to something that would act. */
export interface TurnedOff {
  readonly name: string
  /** The files that set it, each once. */
  readonly files: readonly string[]
}

/** What must change so that a setting of the source does not act. */
export interface Neutralised extends TurnedOff {
  readonly setting: SourceSetting
  /** True where another file than postgresql.auto.conf sets it: then a line there must override it. */
  readonly mustOverride: boolean
}

/** The settings among `wanted` that act in these files. */
export function actingSettings(found: readonly FoundSetting[], wanted: readonly SourceSetting[]): Neutralised[] {
  return wanted.flatMap((setting) => {
    const lines = found.filter(({ name }) => name === setting.name)
    const elsewhere = lines.filter(({ file }) => file !== autoFile)
    const mustOverride = acts(setting, elsewhere.at(-1)?.value)
    if (!mustOverride && !acts(setting, lines.at(-1)?.value)) return []
    return [{ setting, name: setting.name, files: [...new Set(lines.map(({ file }) => file))], mustOverride }]
  })
}

function acts({ off }: SourceSetting, value: string | undefined): boolean {
  if (value === undefined || value.toLowerCase() === off) return false
  if (off === '0') return !/^0+(\.0*)?\s*[a-z]*$/i.test(value.trim())
  return off !== 'on' || !['true', 'yes', '1', 'tru', 'tr', 't', 'ye', 'y'].includes(value.toLowerCase())
}

/** The setting by which a server with these files archives its WAL; undefined where it does not. */
export function archivingBy(found: readonly FoundSetting[]): string | undefined {
  const last = (wanted: string) => found.findLast(({ name }) => name === wanted)?.value ?? ''
  const mode = last('archive_mode').toLowerCase()
  if (mode === '' || /^(of|off|f|fa|fal|fals|false|n|no|0)$/.test(mode)) return undefined
  return ['archive_library', 'archive_command'].find((name) => last(name) !== '')
}
