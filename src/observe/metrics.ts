/**
 * Every metric of walrx, in one list. Names are `walrx_<room>_<what>_<unit>[_total]`.
 *
 * All but `walrx_build_info` tell of one cluster and have the label `cluster`: the cluster's name in the settings of its
 * service. For `wal-receive` that is the last folder of the archive's prefix, as `db1` for `s3://backups/db1`. A query
 * that names no label finds them as it did before there was one.
 */

/** One row of the list. */
export interface MetricSpec {
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly name: string
  readonly help: string
  /** Labels beside `cluster`. */
  readonly labels?: readonly string[]
  /** Upper bounds of a histogram, which has them always. */
  readonly buckets?: readonly number[]
}

/** From a local disk's milliseconds to a store that is barely alive. */
const secondsBuckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300]

/**
 * The metrics of a cluster. Positions are byte addresses as floating point numbers: exact up to 2^53, which is 8 PB of WAL, and to a
 * few kilobytes beyond.
 */
export const clusterMetricSpecs = {
  receivedLsn: {
    type: 'gauge',
    name: 'walrx_receive_received_lsn_bytes',
    help: 'One past the last WAL byte that was received',
  },
  durableLsn: {
    type: 'gauge',
    name: 'walrx_receive_durable_lsn_bytes',
    help: 'End of the unbroken run of WAL that is in the archive',
  },
  flushLsn: {
    type: 'gauge',
    name: 'walrx_receive_flush_lsn_bytes',
    help: 'Last flush position that was reported to the server',
  },
  slotRestartLsn: {
    type: 'gauge',
    name: 'walrx_receive_slot_restart_lsn_bytes',
    help: "The slot's restart_lsn: the oldest WAL that the server still keeps for us",
  },
  slotLag: {
    type: 'gauge',
    name: 'walrx_slot_lag_bytes',
    help: "WAL that the server keeps for us: its end of WAL, as last heard, less the slot's restart_lsn",
  },
  slotOverBudget: {
    type: 'gauge',
    name: 'walrx_slot_lag_over_budget',
    help: '1 while the slot keeps more WAL than --max-slot-lag allows, else 0',
  },
  slotSafeWal: {
    type: 'gauge',
    name: 'walrx_slot_safe_wal_bytes',
    help: 'WAL that can be written before the server may invalidate the slot; +Inf without a limit, NaN where unknown',
  },
  slotWalStatus: {
    type: 'gauge',
    name: 'walrx_slot_wal_status',
    help: '1 for the wal_status that the server last told: reserved, extended, unreserved, lost; none where unknown',
    labels: ['status'],
  },
  segments: {
    type: 'counter',
    name: 'walrx_receive_segments_total',
    help: 'WAL segments that became durable in the archive',
  },
  receivedBytes: {
    type: 'counter',
    name: 'walrx_receive_received_bytes_total',
    help: 'WAL bytes taken from the stream',
  },
  storedBytes: {
    type: 'counter',
    name: 'walrx_receive_stored_bytes_total',
    help: 'Bytes of the objects that were stored',
  },
  tailChunks: {
    type: 'counter',
    name: 'walrx_tail_chunks_total',
    help: 'Chunks of unfinished segments that were put: the requests that they cost',
  },
  tailBytes: {
    type: 'counter',
    name: 'walrx_tail_bytes_total',
    help: 'Bytes of those chunks, as stored',
  },
  tailSeconds: {
    type: 'histogram',
    name: 'walrx_tail_put_seconds',
    help: 'Time that the put of one chunk took',
    buckets: secondsBuckets,
  },
  rpoBytes: {
    type: 'gauge',
    name: 'walrx_rpo_bytes',
    help: 'WAL that would be lost with the server now: its end of WAL, as last heard, less what is durable',
  },
  rpoSeconds: {
    type: 'gauge',
    name: 'walrx_rpo_seconds',
    help: 'Age of the oldest WAL that was received and is not durable; 0 when all is',
  },
  synchronous: {
    type: 'gauge',
    name: 'walrx_synchronous',
    help: '1 while commits can wait for the archive: a flush position is reported that stays valid',
  },
  uploadSeconds: {
    type: 'histogram',
    name: 'walrx_receive_upload_seconds',
    help: 'Time that the put of one object took',
    buckets: secondsBuckets,
  },
  durableSeconds: {
    type: 'histogram',
    name: 'walrx_receive_durable_seconds',
    help: "Time from the arrival of a segment's last byte until it was durable",
    buckets: secondsBuckets,
  },
  poolBuffers: {
    type: 'gauge',
    name: 'walrx_receive_pool_buffers_count',
    help: 'Segment buffers of the pool',
  },
  poolBuffersFree: {
    type: 'gauge',
    name: 'walrx_receive_pool_buffers_free_count',
    help: 'Segment buffers that are free',
  },
  poolFullSeconds: {
    type: 'counter',
    name: 'walrx_receive_pool_full_seconds_total',
    help: 'Time during which the socket was not read because no buffer was free',
  },
  reconnects: {
    type: 'counter',
    name: 'walrx_receive_reconnects_total',
    help: 'Times that a new stream was begun after the first',
  },
  uploadFailures: {
    type: 'counter',
    name: 'walrx_receive_upload_failures_total',
    help: 'Puts that failed, whether tried again or not',
  },
  gaps: {
    type: 'counter',
    name: 'walrx_receive_gaps_total',
    help: 'Ranges of WAL that the server no longer had and the archive lacks',
  },
  gapBytes: {
    type: 'counter',
    name: 'walrx_receive_gap_bytes_total',
    help: 'Bytes in those ranges',
  },
  gapBackups: {
    type: 'counter',
    name: 'walrx_receive_gap_backups_total',
    help: 'Base backups that --backup-after-gap has taken, by how they ended: done or failed',
    labels: ['outcome'],
  },
  repairedBytes: {
    type: 'counter',
    name: 'walrx_receive_repaired_bytes_total',
    help: 'Bytes of WAL that the server no longer had and that came from another host',
    labels: ['host'],
  },
  pastForkBytes: {
    type: 'counter',
    name: 'walrx_receive_past_fork_bytes_total',
    help: 'Bytes received behind the fork of their timeline; they stay on the old timeline',
  },
  timeline: {
    type: 'gauge',
    name: 'walrx_receive_timeline',
    help: 'Timeline that is being received',
  },
  connected: {
    type: 'gauge',
    name: 'walrx_receive_connected',
    help: '1 while WAL is streaming, else 0',
  },
} as const satisfies Record<string, MetricSpec>

/** The metric of the process, without a cluster. */
export const buildInfoSpec = {
  type: 'gauge',
  name: 'walrx_build_info',
  help: 'Always 1; the labels say what is running',
  labels: ['version', 'node'],
} as const satisfies MetricSpec

/** The whole list. */
export const metricSpecs = { ...clusterMetricSpecs, buildInfo: buildInfoSpec } as const
