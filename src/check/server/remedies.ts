/** Steps that several findings of the server have in common. */
import { shellWord } from '../../primitives/shell-word.ts'
import { onServer, sql, type Step } from '../finding.ts'

/** A string constant of SQL. */
export function sqlText(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

/** A name in SQL. */
export function sqlName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** Sets a parameter that a reload takes over. */
export function reloaded(name: string, value: string): Step[] {
  return [sql(`ALTER SYSTEM SET ${name} = ${sqlText(value)};`), sql('SELECT pg_reload_conf();')]
}

/** Sets a parameter that only a restart takes over. */
export function restarted(name: string, value: string, settings: ReadonlyMap<string, string>): Step[] {
  return [sql(`ALTER SYSTEM SET ${name} = ${sqlText(value)};`), restart(settings)]
}

/** The restart of the server. */
export function restart(settings: ReadonlyMap<string, string>): Step {
  return onServer(`pg_ctl restart -D ${dataDirectory(settings)}`)
}

/** As a word for a shell on the server's machine, where the role may not see it by the variable of PostgreSQL's own tools. */
export function dataDirectory(settings: ReadonlyMap<string, string>): string {
  const directory = settings.get('data_directory')
  return directory === undefined ? '"$PGDATA"' : shellWord(directory)
}

/** Puts a line at the beginning of pg_hba.conf, where no other line comes before it, and has it read. */
export function hbaLine(line: string, settings: ReadonlyMap<string, string>): Step[] {
  const file = settings.get('hba_file')
  const path = file === undefined ? '"$(psql -AtX -d postgres -c \'SHOW hba_file\')"' : shellWord(file)
  // The text of sed's `i` loses single backslashes.
  return [
    onServer(`sed -i ${shellWord(`1i ${line.replaceAll('\\', '\\\\')}`)} ${path}`),
    sql('SELECT pg_reload_conf();'),
  ]
}

/** Bytes for a sentence and for PostgreSQL alike: whole units of 1024, `16MB`. */
export function shownBytes(bytes: number): string {
  if (bytes < 0) return '-1'
  for (const [unit, size] of [
    ['GB', 1024 ** 3],
    ['MB', 1024 ** 2],
    ['kB', 1024],
  ] as const) {
    if (bytes >= size * 10 || (bytes >= size && bytes % size === 0)) return `${Math.floor(bytes / size)}${unit}`
  }
  return `${bytes}B`
}
