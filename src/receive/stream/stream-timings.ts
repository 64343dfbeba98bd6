/** How often a stream reports, and when a silent connection counts as dead: all from the server's wal_sender_timeout. */

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
