/**
 * What we report to the server, and when. The promise: **a flush position never exceeds the end of the WAL that is
 * durable in the archive without a hole.** The server frees WAL up to it without asking again
 * (PhysicalConfirmReceivedLocation in walsender.c). What counts as durable depends on the mode (acknowledger.ts):
 *   by pulse       whole segments alone, so that the flush position is always the first byte of a segment. The chunks
 *                  of the unfinished segment move nothing: the server keeps its WAL
 *   synchronous    whole segments, and after them the chunks of unfinished segments as far as they lead on without a
 *                  hole: commits wait for the last byte, not for the end of the segment
 *
 * The pulse. A flush position that is valid at rest makes us a candidate for synchronous replication
 * (SyncRepGetCandidateStandbys in syncrep.c) and keeps the server's shutdown waiting until we have flushed its last
 * byte (WalSndDone), which happens only when the segment ends. So flush is normally 0, "unknown", and only when the
 * durable run of segments has advanced, two messages go out in one write:
 *   1. write = flush = the durable end: moves the slot. (write is not what we received, for in the instant between the
 *      two messages we may be a synchronous standby, and remote_write must not be released by bytes in memory.)
 *   2. write = received, flush = 0: takes the candidacy back; the shutdown waits for write only.
 * apply is always 0: we replay nothing, and remote_apply must not be answered.
 */
import type { StandbyStatus } from '../../postgres/protocol/frames.ts'
import { invalidLsn, type Lsn } from '../../postgres/lsn.ts'

/** A status that reports progress without any promise. */
export function quietStatus(received: Lsn, replyRequested = false): StandbyStatus {
  return { write: received, flush: invalidLsn, apply: invalidLsn, replyRequested }
}

/** The two messages that move the slot to `durable`: to be sent in one write. */
export function pulse(received: Lsn, durable: Lsn): readonly [StandbyStatus, StandbyStatus] {
  return [{ write: durable, flush: durable, apply: invalidLsn, replyRequested: false }, quietStatus(received)]
}
