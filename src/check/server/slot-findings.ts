/** Findings of the slot: whether it can be made, what it keeps, who uses it, and what it may cost the server. */
import { bytesBetween } from '../../postgres/lsn.ts'
import { parseSegmentSize } from '../../postgres/wal/wal-file.ts'
import { parseTimeoutMs } from '../../receive/stream/stream-timings.ts'
import type { CheckId } from '../check-table.ts'
import type { CheckWish } from '../check-wish.ts'
import { failure, type Finding, note, ok, setting, skipped, sql, type Step, warning, words } from '../finding.ts'
import { reloaded, restarted, shownBytes, sqlText } from './remedies.ts'
import { parseShownBytes, type ServerFacts } from './server-facts.ts'

const GiB = 1024 ** 3

/** All findings of the group. */
export function slotFindings(facts: ServerFacts, wish: CheckWish): Finding[] {
  const ids: CheckId[] = ['slot.free', 'slot.state', 'slot.use', 'slot.lag', 'slot.limit', 'slot.idle_timeout']
  if (wish.slot === undefined) return [...ids.map((id) => skipped(id, '--slotless is given')), walKeepSize(facts)]
  const { slot } = wish
  return [
    free(facts),
    state(facts, slot),
    use(facts, wish, slot),
    lag(facts, wish, slot),
    limit(facts, wish),
    idleTimeout(facts),
    skipped('slot.wal_keep_size', 'the slot keeps the WAL'),
  ]
}

/** True where the slot is there, whichever connection shows it; undefined where none does. */
function isThere({ session, sql: asked }: ServerFacts): boolean | undefined {
  if (asked.value) return asked.value.slot !== undefined
  const reading = session.value?.slot
  return reading === undefined || reading.kind === 'unreadable' ? undefined : reading.kind !== 'missing'
}

function free(facts: ServerFacts): Finding {
  const id = 'slot.free'
  const { settings, sql: asked } = facts
  const max = Number(settings.get('max_replication_slots') ?? NaN)
  if (Number.isNaN(max)) return skipped(id, 'the server could not be asked')
  const exists = isThere(facts)
  const slots = asked.value?.slots
  if (exists === true) return ok(id, `max_replication_slots is ${max}, and the slot has one of them`)
  if (max === 0)
    return failure(
      id,
      3,
      'max_replication_slots is 0, and must be 1 at least',
      ...restarted('max_replication_slots', '10', settings),
    )
  if (slots === undefined)
    return ok(id, `max_replication_slots is ${max}; how many are free takes an ordinary connection to see`)
  const text = `of max_replication_slots = ${max}, ${slots} ${slots === 1 ? 'is' : 'are'} in use`
  if (slots < max) return ok(id, text)
  const sentence = `${text}, and one must be free for walrx`
  return failure(id, 3, sentence, ...restarted('max_replication_slots', String(slots + 5), settings))
}

/** Another name for the slot. */
function otherName(slot: string): Step {
  return setting(`--slotname=${slot.slice(0, 58)}_wal`)
}

function state(facts: ServerFacts, slot: string): Finding {
  const id = 'slot.state'
  const { session, sql: asked } = facts
  const exists = isThere(facts)
  if (exists === undefined)
    return skipped(id, session.error ? 'the server could not be asked' : 'it takes an ordinary connection')
  if (!exists) return ok(id, `there is no slot ${sqlText(slot)} yet: walrx wal-receive creates it`)
  const health = asked.value?.slot
  const reading = session.value?.slot
  if (health?.kind === 'logical' || reading?.kind === 'logical') {
    return failure(
      id,
      3,
      `slot ${sqlText(slot)} is logical, and must be physical`,
      words('give walrx a slot of its own:'),
      otherName(slot),
    )
  }
  const drop = sql(`SELECT pg_drop_replication_slot(${sqlText(slot)});`)
  const isLost = health ? health.walStatus === 'lost' || health.invalidationReason !== undefined : false
  if (isLost) {
    const why = health?.invalidationReason ?? 'wal_removed'
    const text = `slot ${sqlText(slot)} is invalidated (${why}) and keeps no WAL: what is not archived may be lost`
    return failure(
      id,
      6,
      text,
      drop,
      words('walrx wal-receive creates it again, and records a gap where WAL is lost: take a backup then'),
    )
  }
  if (health?.walStatus === 'unreserved') {
    const text = `slot ${sqlText(slot)} is unreserved: the next checkpoint of the server removes WAL that is not archived`
    return failure(
      id,
      6,
      text,
      ...reloaded('max_slot_wal_keep_size', '-1'),
      words('start walrx wal-receive, or find out why it is slow'),
    )
  }
  const hasPosition = health
    ? health.restartLsn !== undefined
    : reading?.kind === 'physical' && reading.restartLsn !== undefined
  if (!hasPosition) {
    const text = `slot ${sqlText(slot)} has no restart_lsn and keeps no WAL: walrx wal-receive drops it, and creates it again`
    return warning(id, text, drop)
  }
  return ok(
    id,
    `slot ${sqlText(slot)} is physical${health?.walStatus === undefined ? '' : `, and its WAL is ${health.walStatus}`}`,
  )
}

function use({ sql: asked }: ServerFacts, { conninfo }: CheckWish, slot: string): Finding {
  const id = 'slot.use'
  if (!asked.value) return skipped(id, 'it takes an ordinary connection')
  const { slotUser } = asked.value
  if (!slotUser) return ok(id, `nobody uses slot ${sqlText(slot)} now`)
  const { address, applicationName, pid, role } = slotUser
  if (applicationName === conninfo.applicationName && role === conninfo.user) {
    return ok(
      id,
      `a receiver uses slot ${sqlText(slot)} (PID ${pid}${address === undefined ? '' : ` from ${address}`})`,
    )
  }
  const by =
    applicationName === undefined
      ? 'another role'
      : `${applicationName} of role ${role ?? 'unknown'} from ${address ?? 'an address that only pg_monitor sees'}`
  const text = `slot ${sqlText(slot)} is in use by PID ${pid}, ${by}: walrx wal-receive waits until it is free`
  return failure(id, 3, text, words('give walrx a slot of its own, or stop the other:'), otherName(slot))
}

/** A slot that keeps more is worth a line of its own. */
const lagMaxBytes = 10 * GiB

function lag({ sql: asked }: ServerFacts, { maxSlotLagBytes }: CheckWish, slot: string): Finding {
  const id = 'slot.lag'
  if (!asked.value) return skipped(id, 'it takes an ordinary connection')
  const { restartLsn, serverEnd } = asked.value.slot ?? {}
  if (restartLsn === undefined || serverEnd === undefined) return skipped(id, 'the slot keeps no WAL yet')
  const bytes = Math.max(0, bytesBetween(restartLsn, serverEnd))
  const text = `slot ${sqlText(slot)} keeps ${shownBytes(bytes)} of WAL`
  const most = maxSlotLagBytes ?? lagMaxBytes
  if (bytes <= most) return ok(id, text)
  const limitText =
    maxSlotLagBytes === undefined ? `more than ${shownBytes(most)}` : `more than --max-slot-lag, ${shownBytes(most)}`
  return warning(
    id,
    `${text}, ${limitText}`,
    words("start walrx wal-receive, or find out in its log why it is slow: the server's disk fills up"),
  )
}

/** Less than so much is soon written, whatever the size of a segment. */
const smallLimitBytes = GiB

function limit({ disk, settings }: ServerFacts, { dropsSlot, maxSlotLagBytes }: CheckWish): Finding {
  const id = 'slot.limit'
  const shown = settings.get('max_slot_wal_keep_size')
  if (shown === undefined) return skipped(id, 'the server could not be asked')
  const megabytes = /^-?\d+$/.test(shown) && shown !== '-1' ? `${shown}MB` : shown
  const bytes = parseShownBytes(megabytes)
  const free = disk && `${shownBytes(disk.freeBytes)} of ${shownBytes(disk.totalBytes)} are free at ${disk.path}`
  if (bytes === undefined || bytes < 0) return unlimited(id, free, disk?.freeBytes, { dropsSlot, maxSlotLagBytes })
  const segmentSize = segmentSizeOf(settings)
  const text = `max_slot_wal_keep_size is ${shown}`
  if (bytes < 2 * segmentSize) {
    const sentence = `${text}, and must hold 2 segments of ${shownBytes(segmentSize)} at least: the slot is lost at once when walrx is away`
    return failure(id, 6, sentence, ...reloaded('max_slot_wal_keep_size', suggested(disk?.freeBytes)))
  }
  if (disk && bytes > disk.freeBytes) {
    const sentence = `${text}, and only ${free}: the disk is full before the limit acts`
    return warning(id, sentence, ...reloaded('max_slot_wal_keep_size', suggested(disk.freeBytes)))
  }
  if (bytes < smallLimitBytes) {
    const sentence = `${text}, and should be ${shownBytes(smallLimitBytes)} at least: WAL is lost when the server writes more while walrx is away`
    return warning(id, sentence, ...reloaded('max_slot_wal_keep_size', suggested(disk?.freeBytes)))
  }
  return ok(id, free === undefined ? text : `${text}, and ${free}`)
}

function unlimited(
  id: CheckId,
  free: string | undefined,
  freeBytes: number | undefined,
  { dropsSlot, maxSlotLagBytes }: Pick<CheckWish, 'dropsSlot' | 'maxSlotLagBytes'>,
): Finding {
  if (dropsSlot && maxSlotLagBytes !== undefined) {
    return ok(
      id,
      `max_slot_wal_keep_size is -1, and --max-slot-lag drops the slot above ${shownBytes(maxSlotLagBytes)}`,
    )
  }
  const seen = free ?? 'the free space of its disk cannot be seen from here'
  const text = `max_slot_wal_keep_size is -1, without a limit, and ${seen}: the disk fills up while walrx cannot archive`
  const steps = [
    ...(freeBytes === undefined
      ? [words('choose less than what is free where pg_wal is, and more than the server writes in the longest outage:')]
      : []),
    ...reloaded('max_slot_wal_keep_size', suggested(freeBytes)),
  ]
  return freeBytes !== undefined && freeBytes < 5 * GiB ? warning(id, text, ...steps) : note(id, text, ...steps)
}

/** Half of what is free, in whole GB; 50GB where that is not known. */
function suggested(freeBytes: number | undefined): string {
  return freeBytes === undefined ? '50GB' : `${Math.max(1, Math.floor(freeBytes / 2 / GiB))}GB`
}

/** wal_segment_size, 16 MB where the server does not show it. */
export function segmentSizeOf(settings: ReadonlyMap<string, string>): number {
  const shown = settings.get('wal_segment_size')
  return shown === undefined ? 16 * 1024 * 1024 : parseSegmentSize(shown)
}

const dayMs = 86_400_000

function idleTimeout({ session, settings }: ServerFacts): Finding {
  const id = 'slot.idle_timeout'
  const shown = settings.get('idle_replication_slot_timeout')
  if (shown === undefined) {
    return skipped(
      id,
      session.value && session.value.version < 180_000
        ? 'only PostgreSQL 18 and later have it'
        : 'the server could not be asked',
    )
  }
  const ms = parseTimeoutMs(shown)
  if (ms === 0 || ms >= dayMs) return ok(id, `idle_replication_slot_timeout is ${shown}`)
  const text = `idle_replication_slot_timeout is ${shown}, and should be 0 or a day at least: an outage of walrx for so long loses the slot`
  return warning(id, text, ...reloaded('idle_replication_slot_timeout', '0'))
}

function walKeepSize({ settings }: ServerFacts): Finding {
  const id = 'slot.wal_keep_size'
  const shown = settings.get('wal_keep_size')
  if (shown === undefined) return skipped(id, 'the server could not be asked')
  const bytes = parseShownBytes(/^\d+$/.test(shown) && shown !== '0' ? `${shown}MB` : shown) ?? 0
  if (bytes >= smallLimitBytes) return ok(id, `wal_keep_size is ${shown}, and --slotless is given`)
  const text = `--slotless is given and wal_keep_size is ${shown}, which should be ${shownBytes(smallLimitBytes)} at least: the server removes WAL that is not archived`
  return warning(id, text, ...reloaded('wal_keep_size', '10GB'))
}
