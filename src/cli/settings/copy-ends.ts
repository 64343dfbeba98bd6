/**
 * Reads `--from` and `--to` of copy. WAL-G and WAL-RUS name archives with them, and a window has a beginning and an end: each
 * of the two takes both, and what is typed shows which is meant. A time, an LSN and the name of a backup are never a URL,
 * and a file of such a name is written as ./NAME.
 */
import { type ArchivePlace, archivePlace } from '../../config/other-archive.ts'
import { valueSeparator } from '../../config/options/option-types.ts'
import type { WindowEnd } from '../../copy/scope/copy-request.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { parseLsn } from '../../postgres/lsn.ts'
import { parseTimestamp } from '../../postgres/timestamp.ts'

/** What one of the two options says. */
export interface CopyEnd {
  readonly archive: ArchivePlace | undefined
  readonly window: WindowEnd | undefined
}

/**
 * Reads the values of one of the options.
 * @param flag `--from` or `--to`
 * @throws WALRX_USAGE for what is neither an archive nor a place in the WAL, for two of one kind, and for a time that cannot be
 * read
 */
export function readCopyEnd(flag: '--from' | '--to', values: string | undefined): CopyEnd {
  let archive: ArchivePlace | undefined
  let window: WindowEnd | undefined
  for (const text of values?.split(valueSeparator) ?? []) {
    const end = windowEnd(text)
    const place = end ? undefined : archivePlace(text)
    if (!end && !place) throw unknown(flag, text)
    if ((end && window) || (place && archive)) {
      throw new WalrxError('WALRX_USAGE', `${flag} names two ${end ? 'places in the WAL' : 'archives'}`, {
        hint: `give ${flag} once with an archive, and once with a time, an LSN or the name of a backup`,
      })
    }
    archive = place ?? archive
    window = end ?? window
  }
  return { archive, window }
}

function windowEnd(text: string): WindowEnd | undefined {
  if (/^(base_[0-9A-F]{24}\w*|LATEST)$/.test(text)) return { kind: 'backup', name: text }
  if (/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(text)) return { kind: 'lsn', lsn: parseLsn(text) }
  return /^\d{4}-\d\d-\d\d/.test(text) ? { kind: 'time', time: parseTimestamp(text) } : undefined
}

function unknown(flag: string, text: string): WalrxError {
  const shown = JSON.stringify(text)
  const isPath = text.includes('/') || text.includes('.')
  if (isPath) {
    return new WalrxError('WALRX_USAGE', `${flag}: there is no file and no directory ${shown}`, {
      hint: 'name a config file or a directory that exists, or write s3://BUCKET/PATH',
    })
  }
  return new WalrxError('WALRX_USAGE', `${flag}: ${shown} is neither an archive nor a place in the WAL`, {
    hint: 'write s3://BUCKET/PATH, a directory or a config file; or a time such as 2026-03-01T12:00:00Z, an LSN such as 16/B374D848, or the name of a backup',
  })
}
