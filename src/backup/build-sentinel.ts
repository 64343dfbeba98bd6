/** The sentinel of a backup that has come whole. */
import { hostname } from 'node:os'
import type { JsonValue } from '../primitives/json/json.ts'
import type { BaseBackupEnd, BaseBackupStart } from '../postgres/backup/base-backup.ts'
import type { BackupTablespace } from '../postgres/backup/base-backup-sink.ts'
import type { ClusterFacts } from '../postgres/backup/cluster-facts.ts'
import { formatBackupTime } from '../walg/backup/backup-time.ts'
import type { DeltaOrigin, Sentinel } from '../walg/backup/sentinel.ts'
import type { DeltaParent } from './delta/parent-choice.ts'

/** What is known of a backup that has come whole. */
export interface FinishedFacts {
  readonly start: BaseBackupStart
  readonly end: BaseBackupEnd
  readonly parent: DeltaParent | undefined
  readonly cluster: ClusterFacts
  /** Milliseconds since 1970. */
  readonly startedAt: number
  readonly finishedAt: number
  /** Bytes of all tars, and of what is stored of them. */
  readonly content: { readonly tarBytes: number; readonly storedBytes: number }
  readonly userData: JsonValue | undefined
  readonly isPermanent: boolean
}

/** Makes it. */
export function sentinelOf(facts: FinishedFacts): Sentinel {
  const { cluster, content, end, parent, start } = facts
  const tablespaces = start.tablespaces.filter(isElsewhere).map(({ location, oid }) => {
    return { oid, location, link: `pg_tblspc/${oid}` }
  })
  return {
    startLsn: start.startLsn,
    finishLsn: end.endLsn,
    delta: parent && originOf(parent),
    pgVersion: cluster.serverVersion,
    systemIdentifier: cluster.systemId,
    uncompressedSize: content.tarBytes,
    compressedSize: content.storedBytes,
    dataCatalogSize: 0,
    // Readers want a path here; walrx never uses it.
    spec: { basePrefix: cluster.dataDirectory ?? '/', tablespaces },
    userData: facts.userData,
    filesMetadataDisabled: false,
    version: 2,
    startTime: formatBackupTime(facts.startedAt),
    finishTime: formatBackupTime(facts.finishedAt),
    hostname: hostname(),
    // Empty where the role may not see it: WAL-RUS wants a text.
    dataDir: cluster.dataDirectory,
    isPermanent: facts.isPermanent,
    extra: {},
  }
}

function originOf({ count, fullName, name, startLsn }: DeltaParent): DeltaOrigin {
  return { parentName: name, parentLsn: startLsn, fullName, count, incrementFormat: undefined }
}

/** A tablespace outside of the data directory: one in place is part of it. */
function isElsewhere(tablespace: BackupTablespace): tablespace is BackupTablespace & { readonly oid: number } {
  return tablespace.oid !== undefined && tablespace.location.startsWith('/')
}
