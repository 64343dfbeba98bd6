/** What comes after a restore, in commands that work when they are pasted into the shell that ran it. */
import { shellWord } from '../../primitives/shell-word.ts'

/** A variable that the server needs in its environment. */
export interface NeededVariable {
  readonly name: string
  /** Undefined for a secret, which is not printed. */
  readonly value: string | undefined
}

/** A data directory that is to be started. */
export interface NextStart {
  readonly dataDirectory: string
  /** Directories outside of it that its owner must own too. */
  readonly outside: readonly string[]
  readonly pgCtl: string
  /** True where root has restored: the files are root's, and PostgreSQL refuses to run as root. */
  readonly isRoot: boolean
  /** Variables for `walrx wal-fetch`; none where the server does not run it. */
  readonly variables: readonly NeededVariable[]
  /** The words of `walrx restore-command`, where no recovery has been set up. */
  readonly setUp: readonly string[] | undefined
  /** True where its own postgresql.conf would have the server run in another directory. */
  readonly isLedAway: boolean
  /** True where the server waits at the recovery target. */
  readonly pauses: boolean
}

/** The steps, as lines of text: prose, and commands that are indented. */
export function nextSteps(start: NextStart): string[] {
  const { dataDirectory, isLedAway, isRoot, outside, pauses, pgCtl, setUp, variables } = start
  const file = (name: string) => shellWord(`${dataDirectory}/${name}`)
  const lines: string[] = []
  const secrets = variables.filter(({ value }) => value === undefined).map(({ name }) => name)
  const commands = variables.flatMap(({ name, value }) =>
    value === undefined ? [] : [`export ${name}=${shellWord(value)}`],
  )
  if (setUp) {
    commands.push(`${setUp.map(shellWord).join(' ')} >>${file('postgresql.auto.conf')}`)
    commands.push(`touch ${file('recovery.signal')}`)
  }
  // pg_ctl returns when the server accepts connections, which a recovery may do late.
  const run = [pgCtl, '-D', dataDirectory, '-l', `${dataDirectory}/walrx-start.log`, '-t', '86400']
  // pg_ctl hands these words to a shell.
  if (isLedAway) run.push('-o', `-c data_directory=${shellWord(dataDirectory)}`)
  run.push('start')
  const starting = run.map(shellWord).join(' ')
  if (isRoot) {
    commands.push(`chown -R postgres: ${[dataDirectory, ...outside].map(shellWord).join(' ')}`)
    // Not a login shell: the server inherits the environment of this one.
    commands.push(`su postgres -s /bin/sh -c ${shellWord(starting)}`)
  } else commands.push(starting)
  if (isRoot) {
    lines.push(
      'root owns the restored files: PostgreSQL does not run as root, nor on files of another user. postgres stands below for the user that it runs as',
    )
  }
  if (setUp) {
    lines.push('no recovery is set up: --recover does that. To recover to the end of the archive, in this shell:')
  } else lines.push('next, in this shell:')
  lines.push(...commands.map((command) => `  ${command}`))
  if (secrets.length > 0)
    lines.push(`secrets are not shown, and must be in the environment there too: ${secrets.join(', ')}`)
  if (pauses) lines.push('at the target the server pauses: select pg_wal_replay_resume() ends the recovery')
  return lines
}
