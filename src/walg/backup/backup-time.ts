/** Times as WAL-G's documents have them: RFC 3339 text. Kept as text, because a Date would lose what is below a ms. */
import { fromUnixMicroseconds, type TimestampTz } from '../../postgres/timestamp.ts'

/** Value of DateFmt and date_fmt: a constant that both tools copy around (wal-g: backup_sentinel_dto.go). */
export const backupTimeFormat = '%Y-%m-%dT%H:%M:%S.%fZ'

/**
 * A moment as WAL-G writes it: UTC with `Z`, a fraction of up to microseconds, rounded up, without zeros at its end
 * (Go's RFC3339Nano after wal-g's utility.TimeNowCrossPlatformUTC).
 * @param epochMs milliseconds since 1970; what is below one counts
 */
export function formatBackupTime(epochMs: number): string {
  const micros = Math.ceil(epochMs * 1000)
  const seconds = Math.floor(micros / 1_000_000)
  const fraction = String(micros - seconds * 1_000_000).padStart(6, '0')
  const whole = new Date(seconds * 1000).toISOString().slice(0, -'.000Z'.length)
  const trimmed = fraction.replace(/0+$/, '')
  return trimmed === '' ? `${whole}Z` : `${whole}.${trimmed}Z`
}

const timePattern = /^(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d+))?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/

/** Nanoseconds since 1970 of an RFC 3339 time (WAL-RUS writes all nine digits); undefined for what is none. */
export function parseBackupTime(text: string): bigint | undefined {
  const match = timePattern.exec(text)
  if (!match) return undefined
  const [, day, time, fraction = '', sign, hours = '0', minutes = '0'] = match
  const epochMs = Date.parse(`${day}T${time}Z`)
  if (Number.isNaN(epochMs)) return undefined
  const offsetMs = (Number(hours) * 60 + Number(minutes)) * 60_000 * (sign === '-' ? -1 : 1)
  return BigInt(epochMs - offsetMs) * 1_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0'))
}

/** Nanoseconds since 1970; undefined for none. Go's zero time, long before 1970, stands for none. */
export function knownTime(text: string | undefined): bigint | undefined {
  const time = text === undefined ? undefined : parseBackupTime(text)
  return time === undefined || time <= 0n ? undefined : time
}

/** The same as PostgreSQL has it, to compare with the times of transactions. */
export function knownTimestamp(text: string | undefined): TimestampTz | undefined {
  const nanoseconds = knownTime(text)
  return nanoseconds === undefined ? undefined : fromUnixMicroseconds(nanoseconds / 1000n)
}
