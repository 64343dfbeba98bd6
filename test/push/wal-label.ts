/** A backup history file, as PostgreSQL writes it. */

/** Its content. `start` is an LSN; a backup of `segment` alone. */
export function backupHistory(segment: string, start: string): string {
  return [
    `START WAL LOCATION: ${start} (file ${segment})`,
    `STOP WAL LOCATION: ${start.slice(0, -2)}FF (file ${segment})`,
    `CHECKPOINT LOCATION: ${start.slice(0, -2)}60`,
    'BACKUP METHOD: streamed',
    'BACKUP FROM: primary',
    'START TIME: 2026-01-01 00:00:00 UTC',
    'LABEL: nightly',
    'START TIMELINE: 1',
    'STOP TIME: 2026-01-01 00:00:01 UTC',
    'STOP TIMELINE: 1',
    '',
  ].join('\n')
}
