/**
 * Changed blocks from WAL summaries (pg_wal_summary_contents, PostgreSQL 17 and later;
 * src/backend/backup/walsummaryfuncs.c, src/common/blkreftable.c). They have a row for each changed block, which may be
 * hundreds of millions. So the server counts them, by sorting and hashing with temporary files, and sends one row for
 * each changed segment of a relation.
 */
import { formatLsn } from '../lsn.ts'
import type { TextRow } from '../connect/sql-connection.ts'
import type { WalSummary } from '../wal/wal-summaries.ts'
import { segmentBlocksMax } from './relation-file.ts'

/** Forks of a relation by their numbers (ForkNumber in relpath.h). */
export const forks = ['main', 'fsm', 'vm', 'init'] as const

/** One of {@link forks}. */
export type Fork = (typeof forks)[number]

/** A relation as WAL identifies it (RelFileLocator). */
export interface RelationLocator {
  /** Oid of the tablespace: 1663 is pg_default, 1664 pg_global. */
  readonly tablespace: number
  /** Oid; 0 for relations that all databases share. */
  readonly database: number
  /** relfilenode; 0 means the whole database in that tablespace, which was created again. */
  readonly relation: number
}

/** The changes to one segment of a fork. */
export interface SegmentChange extends RelationLocator {
  readonly fork: Fork
  /** Undefined for {@link limit}, which applies to the whole fork. */
  readonly segment: number | undefined
  /** Blocks of the segment that have changed, each counted once. */
  readonly blocks: number
  /** The smallest number of blocks that the fork had: 0 where it was created, emptied or dropped. */
  readonly limit: number | undefined
}

/** Blocks of one row that is aggregated: the bits of a bigint. */
const chunkBlocks = 64

function source(summaries: readonly WalSummary[]): string {
  const values = summaries.map(({ endLsn, startLsn, timeline }) => {
    return `(${timeline}::bigint, '${formatLsn(startLsn)}'::pg_lsn, '${formatLsn(endLsn)}'::pg_lsn)`
  })
  return `(values ${values.join(', ')}) as summary(timeline, start_lsn, end_lsn),
      lateral pg_wal_summary_contents(timeline, start_lsn, end_lsn)`
}

const key = 'reltablespace, reldatabase, relfilenode, relforknumber'

/**
 * The query for {@link parseSegmentChange}: one row for each segment that changed, and one for each fork that was
 * truncated.
 * @param summaries the server's; at least one
 */
export function segmentChangesQuery(summaries: readonly WalSummary[]): string {
  return `with chunk as (
    select ${key}, case when not is_limit_block then relblocknumber / ${chunkBlocks} end as number,
      bit_or(case when is_limit_block then 0 else 1::bigint << (relblocknumber % ${chunkBlocks})::int end) as bits,
      min(case when is_limit_block then relblocknumber end) as to_block
    from ${source(summaries)}
    group by ${key}, number
  )
  select ${key}, number / ${segmentBlocksMax / chunkBlocks} as segment, sum(bit_count(bits::bit(${chunkBlocks}))),
    min(to_block)
  from chunk group by ${key}, segment`
}

/** A row of {@link segmentChangesQuery}. */
export function parseSegmentChange([
  tablespace,
  database,
  relation,
  fork,
  segment,
  blocks,
  limit,
]: TextRow): SegmentChange {
  return {
    tablespace: Number(tablespace),
    database: Number(database),
    relation: Number(relation),
    fork: forks[Number(fork)] ?? 'main',
    segment: segment === undefined ? undefined : Number(segment),
    blocks: Number(blocks),
    limit: limit === undefined ? undefined : Number(limit),
  }
}

/**
 * The query for {@link parseCut}: a row for each main fork that was truncated to a length above zero, with the smallest
 * one.
 */
export function cutsQuery(summaries: readonly WalSummary[]): string {
  return `select reltablespace, reldatabase, relfilenode, min(relblocknumber) from ${source(summaries)}
    where is_limit_block and relforknumber = 0 and relblocknumber > 0 group by 1, 2, 3`
}

/** A segment of a main fork in which a truncated relation ended. */
export interface CutSegment extends RelationLocator {
  readonly segment: number
}

/** A row of {@link cutsQuery}. */
export function parseCut([tablespace, database, relation, limit]: TextRow): CutSegment {
  const segment = Math.floor(Number(limit) / segmentBlocksMax)
  return { tablespace: Number(tablespace), database: Number(database), relation: Number(relation), segment }
}

/** The summaries that a server would read for an increment over these stretches. */
export function summariesOf(summaries: readonly WalSummary[], stretches: readonly WalSummary[]): WalSummary[] {
  return summaries.filter(({ endLsn, startLsn, timeline }) =>
    stretches.some((each) => each.timeline === timeline && endLsn > each.startLsn && startLsn < each.endLsn),
  )
}
