/** What `backup-fetch` says of the cluster that it has restored. */
import type { PathElsewhere } from '../../restore/recovery/paths-elsewhere.ts'
import type { SettingsReport } from '../../restore/recovery/recovery-settings.ts'

/** For `--json`: names of settings and files, without values, which may hold passwords. */
export function settingsJson(report: SettingsReport | undefined): Readonly<Record<string, unknown>> {
  if (!report) return {}
  const { archivesBy, elsewhere, removed, turnedOff } = report
  return {
    turned_off: turnedOff.map(({ files, name }) => ({ name, files })),
    removed_files: removed,
    archives_by: archivesBy ?? null,
    elsewhere,
  }
}

/** Lines that name what of the original's settings was turned off, and what still acts. */
export function settingsText(report: SettingsReport | undefined): string[] {
  if (!report) return []
  const { archivesBy, removed, turnedOff } = report
  const lines: string[] = []
  if (turnedOff.length > 0) {
    const names = turnedOff.map(({ files, name }) => `${name} (${files.join(', ')})`).join(', ')
    lines.push(`turned off, because it belongs to the life of the original: ${names}`)
  }
  if (removed.length > 0) lines.push(`removed, because it came with the backup: ${removed.join(', ')}`)
  if (lines.length > 0) lines.push('to leave something as it was: --keep-settings with its name')
  if (archivesBy !== undefined)
    lines.push(
      `${archivesBy} came with the backup and will archive as the original does: --archive-mode off is for clones`,
    )
  for (const each of report.elsewhere) lines.push(elsewhereText(each))
  return lines
}

function elsewhereText({ exists, file, name, path }: PathElsewhere): string {
  if (name === 'data_directory')
    return `${file} sets data_directory to ${path}: the server would run there, not in what is restored. Remove that line`
  const what = name.startsWith('include') ? `has ${name}` : `sets ${name} to`
  const needed = name === 'ident_file' ? '' : ': the server does not start without it'
  const then = exists ? 'which is not of this backup' : `which is not there${needed}`
  return `${file} ${what} ${path}, ${then}`
}
