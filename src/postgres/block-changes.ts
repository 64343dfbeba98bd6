/**
 * What WAL summaries say of blocks (pg_wal_summary_contents, PostgreSQL 17 and later; src/backend/backup/walsummaryfuncs.c,
 * src/common/blkreftable.c). They have a row for each changed block, of which there may be hundreds of millions: the
 * server counts them, by sorting and hashing that it spills to its temporary files, and sends one row for each segment of a
 * relation that has changed.
 */
import { formatLsn } from './lsn.ts'
import { segmentBlocksMax } from './relation-file.ts'
import type { TextRow } from './sql-connection.ts'
import type { WalSummary } from './wal-summaries.ts'

/** Forks of a relation by their numbers (ForkNumber in relpath.h). */
export const forks = ['main', 'fsm', 'vm', 'init'] as const

/** One of {@link forks}. */
export type Fork = (typeof forks)[number]

/** A relation as WAL knows it (RelFileLocator). */
export interface RelationLocator {
  /** Oid of the tablespace: 1663 is pg_default, 1664 pg_global. */
  readonly tablespace: number
  /** Oid; 0 for relations that all databases share. */
  readonly database: number
  /** relfilenode; 0 means the whole database in that tablespace, which was made anew. */
  readonly relation: number
}

/** What has happened to one segment of a fork. */
export interface SegmentChange extends RelationLocator {
  readonly fork: Fork
  readonly segment: number
  /** Blocks of the segment that have changed, each counted once. */
  readonly blocks: number
  /** Those of them below {@link limit}; all, where there is none. */
  readonly blocksBelowLimit: number
  /** The highest of them, counted from the start of the relation; undefined where there is none. */
  readonly highest: number | undefined
  /**
   * Blocks that the fork had when it was shortest: 0 where it was created, emptied or dropped. Undefined where it was not
   * cut.
   */
  readonly limit: number | undefined
}

/** Blocks of one row that is aggregated: the bits of a bigint. */
const chunkBlocks = 64

/**
 * The query for {@link parseSegmentChange}: one row for each segment that changed, and one for each fork that was cut.
 * A block is counted although the relation was cut below it and has grown again, where the server may know better.
 * @param summaries that the server has; at least one
 */
export function segmentChangesQuery(summaries: readonly WalSummary[]): string {
  const values = summaries.map(({ endLsn, startLsn, timeline }) => {
    return `(${timeline}::bigint, '${formatLsn(startLsn)}'::pg_lsn, '${formatLsn(endLsn)}'::pg_lsn)`
  })
  const key = 'reltablespace, reldatabase, relfilenode, relforknumber'
  return `with chunk as (
    select ${key}, case when is_limit_block then -1 else relblocknumber / ${chunkBlocks} end as number,
      bit_or(case when is_limit_block then 0 else 1::bigint << (relblocknumber % ${chunkBlocks})::int end) as bits,
      min(case when is_limit_block then relblocknumber end) as cut
    from (values ${values.join(', ')}) as summary(timeline, start_lsn, end_lsn),
      lateral pg_wal_summary_contents(timeline, start_lsn, end_lsn)
    group by ${key}, number
  ), cut as (
    select ${key}, number, bits, min(cut) over (partition by ${key}) as to_block from chunk
  )
  select ${key}, greatest(number, 0) / ${segmentBlocksMax / chunkBlocks} as segment,
    sum(bit_count(bits::bit(${chunkBlocks}))) as blocks,
    sum(case when to_block is null or (number + 1) * ${chunkBlocks} <= to_block then bit_count(bits::bit(${chunkBlocks}))
      when number < 0 or number * ${chunkBlocks} >= to_block then 0
      else bit_count((bits & ((1::bigint << (to_block - number * ${chunkBlocks})::int) - 1))::bit(${chunkBlocks})) end)
      as below,
    max(case when number >= 0 then (number + 1) * ${chunkBlocks} - position(B'1' in bits::bit(${chunkBlocks})) end)
      as highest,
    to_block
  from cut group by ${key}, segment, to_block`
}

/** A row of {@link segmentChangesQuery}. */
export function parseSegmentChange(row: TextRow): SegmentChange {
  const [tablespace, database, relation, fork, segment, blocks, below, highest, limit] = row
  return {
    tablespace: Number(tablespace),
    database: Number(database),
    relation: Number(relation),
    fork: forks[Number(fork)] ?? 'main',
    segment: Number(segment),
    blocks: Number(blocks),
    blocksBelowLimit: Number(below),
    highest: highest === undefined ? undefined : Number(highest),
    limit: limit === undefined ? undefined : Number(limit),
  }
}

/** The summaries that a server would read for an increment over these stretches. */
export function summariesOf(summaries: readonly WalSummary[], stretches: readonly WalSummary[]): WalSummary[] {
  return summaries.filter(({ endLsn, startLsn, timeline }) =>
    stretches.some((each) => each.timeline === timeline && endLsn > each.startLsn && startLsn < each.endLsn),
  )
}
