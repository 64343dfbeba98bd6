/**
 * Relations that were cut since the parent began, by the WAL summaries. A server forgets changes of such a relation:
 *
 * It puts the summaries together in the order in which the directory lists them (PrepareForIncrementalBackup, up to
 * PostgreSQL 18), which is any order. Reading that a relation was cut to n blocks, it drops all blocks from n on that it has
 * noted (BlockRefTableEntrySetLimitBlock), also those of a later summary, when the relation had grown again. Its increment
 * then lacks these blocks, and a restore takes the parent's for them.
 *
 * And of pages that came back without a trace in the WAL it knows nothing at all: a COPY extends a relation by many pages
 * and leaves those that it does not need as zeros. They are neither listed nor beyond the length that its increment says,
 * so that a restore takes the parent's for them, with rows that were deleted. That is so of a cut in any summary.
 *
 * So the segment within which a relation was cut is left out of the manifest that the server gets, and comes whole. Those
 * after it come whole anyway, and those before it lose nothing.
 */
import { type CutSegment, cutsQuery, parseCut, type RelationLocator } from '../../postgres/relations/block-changes.ts'
import { locatorKey, parseRelationPath } from '../../postgres/relations/relation-names.ts'
import type { SqlConnection } from '../../postgres/connect/sql-connection.ts'
import type { WalSummary } from '../../postgres/wal/wal-summaries.ts'

/** See the file's header. */
export class WalCuts {
  readonly #segments = new Set<string>()
  readonly #seen = new Set<string>()

  /** Reads the summaries that were not read yet. Throws what the server says. */
  async read(
    sql: Pick<SqlConnection, 'stream'>,
    summaries: readonly WalSummary[],
    signal: AbortSignal,
  ): Promise<{ readonly added: number }> {
    const before = this.#segments.size
    const unread = summaries.filter((each) => !this.#seen.has(summaryKey(each)))
    if (unread.length > 0) {
      for await (const row of sql.stream(cutsQuery(unread), signal)) this.#segments.add(cutKey(parseCut(row)))
    }
    for (const each of unread) this.#seen.add(summaryKey(each))
    return { added: this.#segments.size - before }
  }

  /** The paths but for those of cut segments. */
  *without(paths: Iterable<string>): Generator<string, undefined> {
    for (const path of paths) {
      const file = this.#segments.size > 0 ? parseRelationPath(path) : undefined
      if (!file || !this.#segments.has(cutKey(file))) yield path
    }
  }
}

function cutKey({ segment, ...locator }: RelationLocator & Pick<CutSegment, 'segment'>): string {
  return `${locatorKey(locator)}/${segment}`
}

function summaryKey({ endLsn, startLsn, timeline }: WalSummary): string {
  return `${timeline}/${startLsn}/${endLsn}`
}
