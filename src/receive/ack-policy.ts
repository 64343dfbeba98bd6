/**
 * What we tell the server, and when. This file is the promise: **a flush position never exceeds the end of the
 * unbroken run of segments that are durable in the archive.** The server frees WAL up to it without asking again
 * (PhysicalConfirmReceivedLocation in walsender.c).
 *
 * The pulse. A flush position that is valid at rest makes us a candidate for synchronous replication
 * (SyncRepGetCandidateStandbys in syncrep.c) and keeps the server's shutdown waiting until we have flushed its last
 * byte (WalSndDone), which happens only when the segment ends. So flush is normally 0, "unknown", and only when the
 * durable run has advanced, two messages go out in one write:
 *   1. write = flush = the durable end: moves the slot. (write is not what we received, for in the instant between the
 *      two messages we may be a synchronous standby, and remote_write must not be released by bytes in memory.)
 *   2. write = received, flush = 0: takes the candidacy back; the shutdown waits for write only.
 * apply is always 0: we replay nothing, and remote_apply must not be answered.
 */
import type { StandbyStatus } from '../postgres/frames.ts'
import { invalidLsn, type Lsn } from '../postgres/lsn.ts'

/** A status that reports progress without any promise. */
export function quietStatus(received: Lsn, replyRequested = false): StandbyStatus {
  return { write: received, flush: invalidLsn, apply: invalidLsn, replyRequested }
}

/** The two messages that move the slot to `durable`: to be sent in one write. */
export function pulse(received: Lsn, durable: Lsn): readonly [StandbyStatus, StandbyStatus] {
  return [{ write: durable, flush: durable, apply: invalidLsn, replyRequested: false }, quietStatus(received)]
}

/** All periods of a stream, in milliseconds. */
export interface StreamTimings {
  /** A status goes out at least this often. */
  readonly statusMs: number
  /** Nothing heard for this long: ask for a reply. */
  readonly probeAfterMs: number
  /** Nothing heard for this long after asking: the connection is dead. */
  readonly deadAfterMs: number
  /** Answers to the server's pings are at least this far apart, so that no storm of them burns the CPU. */
  readonly replySpacingMs: number
}

/** PostgreSQL's default of wal_sender_timeout, used for the liveness probe where the server has none (0). */
const defaultTimeoutMs = 60_000

/**
 * Derives the periods from the server's `wal_sender_timeout` (0 = off). The server drops us when it heard nothing for
 * the whole timeout, and while the socket is paused its pings go unread, so the status goes out well before half of it.
 * A server that hears from us so often never pings, so silence proves nothing: after half a timeout we ask, and only
 * an unanswered question means that the connection is dead.
 */
export function streamTimings(walSenderTimeoutMs: number): StreamTimings {
  const timeout = walSenderTimeoutMs > 0 ? walSenderTimeoutMs : defaultTimeoutMs
  const probe = Math.min(Math.max(timeout / 2, 1_000), 30_000)
  return {
    statusMs: Math.max(1, Math.min(10_000, timeout / 4)),
    probeAfterMs: probe,
    deadAfterMs: Math.min(Math.max(timeout, 5_000), 60_000),
    replySpacingMs: 5,
  }
}

/** Parses `SHOW wal_sender_timeout` (`1min`, `60s`, `1000ms`, `0`, plain milliseconds) into milliseconds. */
export function parseTimeoutMs(text: string): number {
  const match = /^(\d+)\s*(us|ms|s|min|h|d)?$/.exec(text.trim())
  const unit = { us: 0.001, ms: 1, s: 1000, min: 60_000, h: 3_600_000, d: 86_400_000 }[match?.[2] ?? 'ms'] ?? 1
  return match ? Number(match[1]) * unit : defaultTimeoutMs
}
