/** Findings of the server's settings. */
import { parseTimeoutMs } from '../../receive/stream/stream-timings.ts'
import type { CheckId } from '../check-table.ts'
import type { CheckWish } from '../check-wish.ts'
import {
  failure,
  type Finding,
  note,
  ok,
  onServer,
  setting,
  skipped,
  sql,
  type Step,
  warning,
  words,
} from '../finding.ts'
import { dataDirectory, reloaded, restart, restarted } from './remedies.ts'
import type { ServerFacts } from './server-facts.ts'

type Settings = ReadonlyMap<string, string>

/** Findings from `server.wal_level` to `server.archive_mode`, but for `server.synchronous`. */
export function settingFindings(facts: ServerFacts, wish: CheckWish): Finding[] {
  const { settings } = facts
  const whenKnown = (id: CheckId, name: string, judge: (value: string) => Finding): Finding => {
    const value = settings.get(name)
    return value === undefined
      ? skipped(id, settings.size === 0 ? 'the server could not be asked' : `the server shows no ${name}`)
      : judge(value)
  }
  return [
    whenKnown('server.wal_level', 'wal_level', (value) => walLevel(value, settings)),
    whenKnown('server.max_wal_senders', 'max_wal_senders', (value) => walsenders(Number(value), facts)),
    whenKnown('server.wal_sender_timeout', 'wal_sender_timeout', walSenderTimeout),
    timeouts(settings),
    summarizeWal(facts, wish),
    whenKnown('server.full_page_writes', 'full_page_writes', (value) =>
      value === 'on'
        ? ok('server.full_page_writes', 'full_page_writes is on')
        : warning(
            'server.full_page_writes',
            `full_page_writes is ${value}, and must be on: a crash can leave torn pages, which the WAL does not repair`,
            ...reloaded('full_page_writes', 'on'),
          ),
    ),
    whenKnown('server.fsync', 'fsync', (value) =>
      value === 'on'
        ? ok('server.fsync', 'fsync is on')
        : warning(
            'server.fsync',
            `fsync is ${value}, and must be on: a crash of the machine can destroy the cluster`,
            ...reloaded('fsync', 'on'),
          ),
    ),
    whenKnown('server.data_checksums', 'data_checksums', (value) => dataChecksums(value, settings)),
    whenKnown('server.archive_mode', 'archive_mode', (value) => archiveMode(value, facts)),
  ]
}

function walLevel(value: string, settings: Settings): Finding {
  if (value === 'replica' || value === 'logical') return ok('server.wal_level', `wal_level is ${value}`)
  const steps = restarted('wal_level', 'replica', settings)
  return failure(
    'server.wal_level',
    3,
    `wal_level is ${value}, and must be replica or logical: no recovery goes through such WAL`,
    ...steps,
  )
}

/** A receiver and a backup. */
const neededWalsenders = 2

function walsenders(max: number, { session, settings, sql: asked }: ServerFacts): Finding {
  const id = 'server.max_wal_senders'
  const raised = (count: number) => restarted('max_wal_senders', String(count), settings)
  if (max === 0) return failure(id, 3, `max_wal_senders is 0, and must be ${neededWalsenders} at least`, ...raised(10))
  if (!asked.value) {
    return max < neededWalsenders
      ? warning(
          id,
          `max_wal_senders is ${max}, and must be ${neededWalsenders} at least: a receiver and a backup`,
          ...raised(10),
        )
      : ok(id, `max_wal_senders is ${max}; how many are free takes an ordinary connection to see`)
  }
  // One of them is the connection of this check.
  const used = Math.max(0, asked.value.walsenders - (session.value ? 1 : 0))
  const isReceiving = asked.value.slotUser?.applicationName !== undefined
  const needed = isReceiving ? neededWalsenders - 1 : neededWalsenders
  const free = max - used
  const text = `of max_wal_senders = ${max}, ${used} ${used === 1 ? 'is' : 'are'} in use`
  if (free >= needed) return ok(id, `${text}, ${free} free`)
  const sentence = `${text}, and ${needed} must be free: for ${isReceiving ? 'a backup' : 'a receiver and a backup'}`
  const steps = raised(used + neededWalsenders + 3)
  return free === 0 ? failure(id, 3, sentence, ...steps) : warning(id, sentence, ...steps)
}

const timeoutMinMs = 5_000

function walSenderTimeout(value: string): Finding {
  const id = 'server.wal_sender_timeout'
  const ms = parseTimeoutMs(value)
  const steps = reloaded('wal_sender_timeout', '60s')
  if (ms === 0) {
    return warning(
      id,
      'wal_sender_timeout is 0, and should be 60s: a connection that died holds the slot for ever',
      ...steps,
    )
  }
  if (ms >= timeoutMinMs) return ok(id, `wal_sender_timeout is ${value}`)
  const text = `wal_sender_timeout is ${value}, and should be ${timeoutMinMs / 1000}s at least: a slow moment of the network ends the stream`
  return warning(id, text, ...steps)
}

/** Of our own replication connection: walrx turns them off there, unless something else outranks it. */
function timeouts(settings: Settings): Finding {
  const id = 'server.timeouts'
  const names = ['statement_timeout', 'idle_session_timeout', 'transaction_timeout']
  const known = names.filter((name) => settings.has(name))
  if (known.length === 0) return skipped(id, 'there is no replication connection')
  const set = known.filter((name) => settings.get(name) !== '0')
  if (set.length === 0) return ok(id, `${known.join(', ')} are 0 in sessions of walrx`)
  const values = set.map((name) => `${name} is ${settings.get(name)}`).join(', ')
  return warning(
    id,
    `${values} in sessions of walrx, and must be 0: it ends streams and backups`,
    ...set.map((name) =>
      words(`take "-c ${name}=…" out of PGOPTIONS, or out of options= in the connection string or service`),
    ),
    words('where a connection pooler is between, name the server itself: a pooler has no replication connections'),
  )
}

const dayMs = 86_400_000

function summarizeWal({ session, settings }: ServerFacts, { deltaMaxSteps, requireIncremental }: CheckWish): Finding {
  const id = 'server.summarize_wal'
  if (deltaMaxSteps === 0 && !requireIncremental) return skipped(id, 'no deltas are asked for (--delta-max-steps)')
  if (settings.size === 0) return skipped(id, 'the server could not be asked')
  const value = settings.get('summarize_wal')
  const report = (text: string, ...steps: Step[]) =>
    requireIncremental ? failure(id, 2, text, ...steps) : warning(id, text, ...steps)
  const outcome = requireIncremental ? 'every backup fails' : 'every backup is a full one'
  const wanted = requireIncremental ? '--require-incremental is given' : `--delta-max-steps is ${deltaMaxSteps}`
  if (value === undefined) {
    const major = Math.floor((session.value?.version ?? 0) / 10_000)
    const text = `${wanted}, and PostgreSQL ${major} has no deltas, only 17 and later: ${outcome}`
    return report(text, setting(requireIncremental ? '--no-require-incremental' : '--delta-max-steps=0'))
  }
  if (value !== 'on') {
    return report(
      `summarize_wal is ${value}, and must be on because ${wanted}: ${outcome}`,
      ...reloaded('summarize_wal', 'on'),
    )
  }
  const kept = settings.get('wal_summary_keep_time') ?? '0'
  const keptMs = parseTimeoutMs(kept)
  if (keptMs === 0 || keptMs >= dayMs) return ok(id, `summarize_wal is on, wal_summary_keep_time is ${kept}`)
  const text = `wal_summary_keep_time is ${kept}, and should be longer than the time between two backups`
  return warning(id, text, ...reloaded('wal_summary_keep_time', '10d'))
}

function dataChecksums(value: string, settings: Settings): Finding {
  const id = 'server.data_checksums'
  if (value === 'on') return ok(id, 'data_checksums is on')
  const directory = dataDirectory(settings)
  return note(
    id,
    `data_checksums is ${value}: damaged pages get into backups unseen; with on, every backup verifies them`,
    onServer(`pg_ctl stop -D ${directory} && pg_checksums --enable -D ${directory} && pg_ctl start -D ${directory}`),
  )
}

function archiveMode(value: string, { settings, sql: asked }: ServerFacts): Finding {
  const id = 'server.archive_mode'
  if (value === 'off') return ok(id, 'archive_mode is off: walrx needs none')
  const command = settings.get('archive_command') ?? ''
  // A server that is not archiving shows "(disabled)".
  const isEmpty = command === '' || command === '(disabled)'
  const library = settings.get('archive_library') ?? ''
  if (isEmpty && library === '') {
    const text = `archive_mode is ${value} and archive_command is empty: the server keeps all WAL in pg_wal until its disk is full`
    return warning(id, text, ...reloaded('archive_command', '/bin/true'))
  }
  const { archiver } = asked.value ?? {}
  if (archiver?.isFailing) {
    const text = `archive_mode is ${value} and archive_command fails, ${archiver.failed} times so far, now with ${archiver.lastFailedWal ?? 'a file'}: the server keeps all WAL since`
    return warning(
      id,
      text,
      words("the server's log says why; walrx wal-receive needs no archive_command, so it can also be turned off:"),
      sql("ALTER SYSTEM SET archive_command = '/bin/true';"),
      sql('SELECT pg_reload_conf();'),
    )
  }
  if (command === '/bin/true') return ok(id, `archive_mode is ${value}, and archive_command does nothing`)
  return note(
    id,
    `archive_mode is ${value}, with ${library === '' ? 'an archive_command' : `the archive_library ${library}`}: walrx needs none; into the same archive it must be one of WAL-G, WAL-RUS or walrx wal-push`,
    sql("ALTER SYSTEM SET archive_mode = 'off';"),
    restart(settings),
  )
}
