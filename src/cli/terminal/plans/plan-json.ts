/** A plan for programs: complete, with LSNs as PostgreSQL writes them, and counts and sizes as numbers. */
import type { ChangedFork, PlanReport } from '../../../backup/plan/backup-plan.ts'
import type { FileCount } from '../../../backup/plan/size-estimate.ts'
import { formatJson, type JsonValue } from '../../../primitives/json/json.ts'
import { formatLsn } from '../../../postgres/lsn.ts'
import { pageBytes } from '../../../postgres/relations/relation-file.ts'

/** Relations that are written at once. */
const batch = 1000

/** The text, in pieces: a million relations would not fit into one string. */
export function* planToJson(report: PlanReport): Generator<string, undefined> {
  const { changes } = report
  const head = formatJson({ ...decision(report), summaries: summaries(report) })
  const tail = formatJson({ expected: expected(report), unknown: unknown(report) })
  if (!changes) {
    yield `${head.slice(0, -1)},"changes":null,${tail.slice(1)}\n`
    return
  }
  const blocks = changedBlocks(changes)
  const counts = formatJson({ blocks, bytes: blocks * pageBytes })
  yield `${head.slice(0, -1)},"changes":${counts.slice(0, -1)},"relations":[`
  for (let at = 0; at < changes.length; at += batch) {
    const texts = changes.slice(at, at + batch).map((fork) => formatJson(relation(fork)))
    yield `${at > 0 ? ',' : ''}${texts.join(',')}`
  }
  yield `]},${tail.slice(1)}\n`
}

/** Changed blocks of what is still there, as far as that is known. */
export function changedBlocks(changes: readonly ChangedFork[]): number {
  return changes.reduce((sum, { blocks, isThere }) => (isThere === false ? sum : sum + blocks), 0)
}

function decision({ earlyStart, parent, plan, server, walBytes }: PlanReport): { readonly [key: string]: JsonValue } {
  const { full } = plan
  const { cluster, host, inRecovery, lsn, timeline } = server
  return {
    kind: full ? 'full' : 'delta',
    full_because: full ? { code: full.code, message: full.message, hint: full.hint ?? null } : null,
    parent: parent
      ? {
          name: parent.name,
          timeline: parent.timeline,
          start_lsn: formatLsn(parent.startLsn),
          finish_lsn: formatLsn(parent.finishLsn),
          delta_full_name: parent.fullName,
          delta_count: parent.count,
        }
      : null,
    server: {
      host,
      version: cluster.serverVersion,
      system_identifier: cluster.systemId,
      in_recovery: inRecovery,
      timeline,
      lsn: formatLsn(lsn),
    },
    early_start_lsn: earlyStart === undefined ? null : formatLsn(earlyStart),
    wal_bytes: walBytes ?? null,
  }
}

function summaries({ summaries: cover }: PlanReport): JsonValue {
  if (!cover) return null
  const { available, behindBytes, missing, needed, summarizer } = cover
  return {
    needed: needed.map(({ endLsn, startLsn, timeline }) => {
      return { timeline, start_lsn: formatLsn(startLsn), end_lsn: formatLsn(endLsn) }
    }),
    count: available.length,
    missing: missing ? { timeline: missing.timeline, lsn: formatLsn(missing.startLsn) } : null,
    summarizer_pid: summarizer.pid ?? null,
    summarized_lsn: formatLsn(summarizer.summarizedLsn),
    behind_bytes: behindBytes ?? null,
  }
}

function relation(change: ChangedFork): JsonValue {
  const { blocks, databaseName, fork, isThere, limit, name } = change
  return {
    database: name?.database ?? databaseName ?? null,
    schema: name?.schema ?? null,
    relation: name?.relation ?? null,
    kind: name?.kind ?? null,
    toast_of: name?.toastOf ? { schema: name.toastOf.schema, relation: name.toastOf.relation } : null,
    fork,
    tablespace_oid: change.tablespace,
    database_oid: change.database,
    relfilenode: change.relation,
    path: change.path,
    blocks,
    limit_block: limit ?? null,
    exists: isThere ?? null,
  }
}

function expected({ delta, full }: PlanReport): JsonValue {
  const count = ({ bytes, files }: FileCount) => ({ files, bytes })
  return {
    delta: delta
      ? {
          bytes: delta.bytes,
          increments: { ...count(delta.increments), blocks: delta.increments.blocks },
          unchanged: count(delta.unchanged),
          whole: {
            ...count(delta.whole),
            because: Object.fromEntries([...delta.wholeBecause].map(([reason, each]) => [reason, count(each)])),
          },
        }
      : null,
    full: full ? { bytes: full.bytes, by: full.by } : null,
  }
}

function unknown({ unknown: facts }: PlanReport): JsonValue {
  return facts.map(({ hint, reason, what }) => {
    return { what, code: reason.code, message: reason.message, hint: hint ?? null }
  })
}
