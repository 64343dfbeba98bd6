/** What a listing cannot show, or shows of what is no use: said after it, so that the listing itself stays as it is. */
import { type BrokenBackup, describeBroken } from '../../catalog/chains.ts'
import type { Logger } from '../../observe/log.ts'
import type { WalrxError } from '../../primitives/errors.ts'
import { counted } from './human-size.ts'

/** Lines of one kind. */
const linesMax = 5

/** Warns of backups that cannot be restored: of the last ones. */
export function warnOfBroken(broken: readonly BrokenBackup[], log: Logger): void {
  const more = broken.length - linesMax
  if (more > 0) log.warn(`${counted(more, 'more backup')} cannot be restored: walrx backup-list --chains shows them`)
  for (const each of broken.slice(-linesMax)) log.warn(describeBroken(each))
}

/**
 * Reports objects that cannot be read, once all else has been shown: the exit status says that it is not all.
 * @throws the first, where there is one
 */
export function throwFirst(problems: readonly WalrxError[], log: Logger): void {
  const [first, ...others] = problems
  for (const { hint, message } of others.slice(0, linesMax)) log.warn(message, hint === undefined ? {} : { hint })
  const more = others.length - linesMax
  if (more > 0) log.warn(`${counted(more, 'more object')} cannot be read`)
  if (first) throw first
}
