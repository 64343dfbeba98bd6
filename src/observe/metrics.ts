/**
 * Every metric of walrx, in one list. Names are `walrx_<room>_<what>_<unit>[_total]`.
 *
 * All but `walrx_build_info` belong to one cluster and have the label `cluster`: the cluster's name in the settings of
 * its service. For `walrx serve` that is its name in the configuration, for `wal-receive` the last folder of the archive's prefix, as `db1` for `s3://backups/db1`, or the
 * bucket. A query that names no label finds them all.
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
    help: "The slot's restart_lsn: the oldest WAL that the server still keeps for walrx",
  },
  slotLag: {
    type: 'gauge',
    name: 'walrx_slot_lag_bytes',
    help: "WAL that the server keeps for walrx: its last known end of WAL minus the slot's restart_lsn",
  },
  slotOverBudget: {
    type: 'gauge',
    name: 'walrx_slot_lag_over_budget',
    help: '1 while the slot keeps more WAL than --max-slot-lag allows, else 0',
  },
  slotSafeWal: {
    type: 'gauge',
    name: 'walrx_slot_safe_wal_bytes',
    help: 'WAL that can be written before the server may invalidate the slot; +Inf without a limit, NaN while unknown',
  },
  slotWalStatus: {
    type: 'gauge',
    name: 'walrx_slot_wal_status',
    help: "1 for the slot's last known wal_status: reserved, extended, unreserved or lost; absent while it is unknown",
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
    help: 'Chunks of the tail that were put; each is one request to the storage',
  },
  tailBytes: {
    type: 'counter',
    name: 'walrx_tail_bytes_total',
    help: 'Bytes of the chunks of the tail, as stored',
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
    help: 'WAL that would be lost with the server now: its last known end of WAL minus the end of durable WAL',
  },
  rpoSeconds: {
    type: 'gauge',
    name: 'walrx_rpo_seconds',
    help: 'Age of the oldest received WAL that is not durable; 0 when all received WAL is durable',
  },
  synchronous: {
    type: 'gauge',
    name: 'walrx_synchronous',
    help: '1 while commits can wait for the archive, because walrx keeps a flush position reported; else 0',
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
    help: 'Streams that were begun after the first one',
  },
  uploadFailures: {
    type: 'counter',
    name: 'walrx_receive_upload_failures_total',
    help: 'Puts that failed, those that were tried again included',
  },
  gaps: {
    type: 'counter',
    name: 'walrx_receive_gaps_total',
    help: 'Ranges of WAL that the server no longer had and the archive lacks',
  },
  gapBytes: {
    type: 'counter',
    name: 'walrx_receive_gap_bytes_total',
    help: 'Bytes in the ranges of walrx_receive_gaps_total',
  },
  gapBackups: {
    type: 'counter',
    name: 'walrx_receive_gap_backups_total',
    help: 'Base backups that --backup-after-gap has started, by outcome: done or failed',
    labels: ['outcome'],
  },
  repairedBytes: {
    type: 'counter',
    name: 'walrx_receive_repaired_bytes_total',
    help: 'Bytes of WAL that the server no longer had, and that walrx received from another host',
    labels: ['host'],
  },
  pastForkBytes: {
    type: 'counter',
    name: 'walrx_receive_past_fork_bytes_total',
    help: 'Bytes received after the fork of their timeline; they stay on the old timeline',
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

/** The metrics of a cluster that `walrx serve` keeps, whether its service runs or not. */
export const servedMetricSpecs = {
  ready: {
    type: 'gauge',
    name: 'walrx_cluster_ready',
    help: 'walrx serve: 1 while the cluster is as ready as /readyz says, else 0',
  },
  failures: {
    type: 'counter',
    name: 'walrx_cluster_failures_total',
    help: 'walrx serve: starts and runs of the service of the cluster that have failed, and are tried again',
  },
  memory: {
    type: 'gauge',
    name: 'walrx_cluster_memory_bytes',
    help: "walrx serve: the cluster's share of the memory for WAL",
  },
  jobRunning: {
    type: 'gauge',
    name: 'walrx_job_running',
    help: 'walrx serve: 1 while the job runs, else 0',
    labels: ['job'],
  },
  jobWaiting: {
    type: 'gauge',
    name: 'walrx_job_waiting',
    help: 'walrx serve: 1 while the job is due and does not run: it waits for its turn, or to be tried again; else 0',
    labels: ['job'],
  },
  jobNext: {
    type: 'gauge',
    name: 'walrx_job_next_run_timestamp_seconds',
    help: 'walrx serve: when the job runs next by its schedule, in seconds since 1970; NaN for never',
    labels: ['job'],
  },
  jobLastSuccess: {
    type: 'gauge',
    name: 'walrx_job_last_success_timestamp_seconds',
    help: 'walrx serve: end of the last run that succeeded, in seconds since 1970; 0 for none so far',
    labels: ['job'],
  },
  jobLastDuration: {
    type: 'gauge',
    name: 'walrx_job_last_duration_seconds',
    help: 'walrx serve: how long the last run took, whatever its outcome; 0 for none so far',
    labels: ['job'],
  },
  jobRuns: {
    type: 'counter',
    name: 'walrx_job_runs_total',
    help: 'walrx serve: runs since walrx was started, by outcome: succeeded, failed or stopped',
    labels: ['job', 'outcome'],
  },
} as const satisfies Record<string, MetricSpec>

/** The metric of the process, without a cluster. */
export const buildInfoSpec = {
  type: 'gauge',
  name: 'walrx_build_info',
  help: 'Always 1; the labels are the versions of walrx and Node',
  labels: ['version', 'node'],
} as const satisfies MetricSpec

/** The whole list. */
export const metricSpecs = { ...clusterMetricSpecs, buildInfo: buildInfoSpec, ...servedMetricSpecs } as const
