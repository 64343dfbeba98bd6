/** Words for a POSIX shell: commands that are shown have to work when they are pasted. */

/** Characters that need no quotes. */
const plainWord = /^[A-Za-z0-9_@+=:,./-]+$/

/** A word, with quotes where it needs them. */
export function shellWord(word: string): string {
  return plainWord.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`
}
