/**
 * Times as recovery compares them: microseconds since 2000-01-01 00:00 UTC (TimestampTz, datatype/timestamp.h), as a
 * bigint because a Date has only milliseconds.
 */
import { WalrxError } from '../primitives/errors.ts'

/** Microseconds since 2000-01-01 00:00 UTC. */
export type TimestampTz = bigint

const unixEpochToPostgresMs = Date.UTC(2000, 0, 1)

const form =
  /^(\d{4}-\d\d-\d\d)(?:T| +)(\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)? *(Z|UTC|GMT|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?$/i

/** PostgreSQL's limit for a zone's distance from UTC, in hours (MAX_TZDISP_HOUR, datatype/timestamp.h). */
const zoneHoursMax = 15

const howToWrite = 'write it like 2026-03-01 12:00:00+01 or 2026-03-01T11:00:00Z'

/**
 * Parses a time: date, time of day and zone in ISO 8601's order, the part of PostgreSQL's input that means the same
 * with every DateStyle and TimeZone. A time without a zone is refused: the server would read it in its own TimeZone,
 * and the operator may mean another one, which loses data. Names of zones are refused, too: `CET` is an hour off half
 * the year, and `UTC+2` is two hours west of UTC to PostgreSQL.
 * @throws WALRX_USAGE
 */
export function parseTimestamp(text: string): TimestampTz {
  const match = form.exec(text.trim())
  if (!match) throw new WalrxError('WALRX_USAGE', `walrx cannot read "${text}" as a time`, { hint: howToWrite })
  const [, date, hourMinute, second = '00', fraction = '', zone] = match
  if (zone === undefined) {
    throw new WalrxError('WALRX_USAGE', `"${text}" has no time zone`, {
      hint: `add the time zone: ${text.trim()}Z is UTC, ${text.trim()}+01 is one hour ahead of UTC`,
    })
  }
  const offset = zoneSeconds(zone)
  const iso = `${date}T${hourMinute}:${second}`
  const local = Date.parse(`${iso}Z`)
  // Date.parse turns 31 April into 1 May.
  if (offset === undefined || Number.isNaN(local) || toIso(local) !== iso) {
    throw new WalrxError('WALRX_USAGE', `the time "${text}" does not exist`, { hint: howToWrite })
  }
  return BigInt(local - offset * 1000 - unixEpochToPostgresMs) * 1000n + microseconds(fraction)
}

/** Converts microseconds since 1970-01-01 00:00 UTC, the Unix epoch. */
export function fromUnixMicroseconds(micros: bigint): TimestampTz {
  return micros - BigInt(unixEpochToPostgresMs) * 1000n
}

/** As PostgreSQL prints and reads it: `2026-03-01 11:00:00.123456+00`, without the fraction where it is zero. */
export function formatTimestamp(time: TimestampTz): string {
  const micros = ((time % 1_000_000n) + 1_000_000n) % 1_000_000n
  const ms = Number((time - micros) / 1000n) + unixEpochToPostgresMs
  const fraction = micros === 0n ? '' : `.${micros.toString().padStart(6, '0').replace(/0+$/, '')}`
  return `${toIso(ms).replace('T', ' ')}${fraction}+00`
}

/** As RFC 3339 has it, in UTC: `2026-03-01T11:00:00.123456Z`, without the fraction where it is zero. */
export function formatRfc3339(time: TimestampTz): string {
  return formatTimestamp(time).replace(' ', 'T').replace('+00', 'Z')
}

/** `2026-03-01T11:00:00`, of milliseconds since 1970. */
function toIso(ms: number): string {
  return new Date(ms).toISOString().slice(0, 19)
}

/** Seconds ahead of UTC; undefined beyond PostgreSQL's limits. */
function zoneSeconds(zone: string): number | undefined {
  const [hours = 0, minutes = 0, seconds = 0] = (zone.match(/\d\d/g) ?? []).map(Number)
  if (hours > zoneHoursMax || minutes > 59 || seconds > 59) return undefined
  return (zone.startsWith('-') ? -1 : 1) * (hours * 3600 + minutes * 60 + seconds)
}

/** The digits after the decimal point, rounded as PostgreSQL does. */
function microseconds(fraction: string): bigint {
  const digits = fraction.padEnd(7, '0')
  return BigInt(digits.slice(0, 6)) + (digits.charAt(6) >= '5' ? 1n : 0n)
}
