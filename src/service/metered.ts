/** The receiver's counts as Prometheus metrics. */
import type { ClusterMetrics } from '../observe/cluster-metrics.ts'
import { bytesBetween } from '../postgres/lsn.ts'
import type { ReceiveMeter } from '../receive/ports.ts'
import type { ReceiverSnapshot } from '../receive/receiver.ts'

/** A meter that counts into `metrics`. */
export function metered(metrics: ClusterMetrics): ReceiveMeter {
  return {
    received: (bytes) => metrics.receivedBytes.inc(bytes),
    uploaded: (bytes, putMs, sinceReceivedMs) => {
      metrics.segments.inc()
      metrics.storedBytes.inc(bytes)
      metrics.uploadSeconds.observe(putMs / 1000)
      metrics.durableSeconds.observe(sinceReceivedMs / 1000)
    },
    uploadFailed: () => metrics.uploadFailures.inc(),
    tailStored: (bytes, putMs) => {
      metrics.tailChunks.inc()
      metrics.tailBytes.inc(bytes)
      metrics.tailSeconds.observe(putMs / 1000)
    },
    flushed: (lsn) => metrics.flushLsn.set(Number(lsn)),
    reconnected: () => metrics.reconnects.inc(),
    poolFull: (ms) => metrics.poolFullSeconds.inc(ms / 1000),
    gap: (start, end) => {
      metrics.gaps.inc()
      metrics.gapBytes.inc(Math.max(0, bytesBetween(start, end)))
    },
    repaired: (host, bytes) => metrics.repairedBytes.inc(bytes, { host }),
    pastFork: (bytes) => metrics.pastForkBytes.inc(bytes),
  }
}

/** Sets the gauges from a snapshot: called when the metrics are read. */
export function setGauges(metrics: ClusterMetrics, snapshot: ReceiverSnapshot): void {
  metrics.connected.set(snapshot.state === 'streaming' ? 1 : 0)
  metrics.timeline.set(snapshot.timeline ?? 0)
  metrics.receivedLsn.set(Number(snapshot.receivedLsn))
  metrics.durableLsn.set(Number(snapshot.durableLsn))
  metrics.rpoBytes.set(Math.max(0, bytesBetween(snapshot.durableLsn, snapshot.serverEnd)))
  metrics.rpoSeconds.set(snapshot.oldestMs / 1000)
  metrics.synchronous.set(snapshot.isSynchronous ? 1 : 0)
  metrics.poolBuffers.set(snapshot.poolCapacity)
  metrics.poolBuffersFree.set(snapshot.poolFree)
}
