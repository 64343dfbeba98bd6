/** The restore_command that recovers through walrx. */

/** Characters that a POSIX shell takes as they are. */
const plainWord = /^[A-Za-z0-9_@+=:,./-]+$/

/**
 * The value of restore_command: a `mv` of a segment that lies ready, else wal-fetch.
 *
 * `$PPID` is the process that started the shell: the server's startup process. So what lies ready for another recovery
 * is never taken. What follows wal-fetch keeps its exit contract even where wal-fetch itself can't: Node ends with 1 when
 * the program was removed and with 9 when NODE_OPTIONS is wrong, and PostgreSQL would take both for the end of the
 * archive and promote.
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

/** A word for the shell, with the signs that PostgreSQL replaces in a restore_command. */
function quoted(word: string): string {
  const shell = plainWord.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
  return shell.replaceAll('%', '%%')
}
