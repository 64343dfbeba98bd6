/** The restore_command that recovers through walrx. */

import { shellWord } from '../../primitives/shell-word.ts'

/**
 * The value of restore_command: a `mv` of a prefetched segment, else wal-fetch.
 *
 * `$PPID` is the process that started the shell: the server's startup process. So a segment that was prefetched for
 * another recovery is never taken. The words after wal-fetch keep its exit contract where wal-fetch itself can't: Node
 * exits with 1 when the program was removed and with 9 when NODE_OPTIONS is wrong. PostgreSQL would take both for the
 * end of the archive and promote.
 * @param program the words that stand for `walrx`
 * @param flags options of wal-fetch
 */
export function restoreCommand(program: readonly string[], flags: readonly string[]): string {
  const words = [...program, 'wal-fetch', ...flags].map(quoted).join(' ')
  return [
    'mv -f "pg_wal/.walrx/$PPID/%f" "%p" 2>/dev/null',
    `${words} --recovery-pid "$PPID" "%f" "%p"`,
    '{ [ $? -eq 74 ] && exit 74; [ -e standby.signal ] && exit 1; exit 126; }',
  ].join(' || ')
}

/** A word for the shell. PostgreSQL replaces `%` in a restore_command, so it is doubled. */
function quoted(word: string): string {
  return shellWord(word).replaceAll('%', '%%')
}
