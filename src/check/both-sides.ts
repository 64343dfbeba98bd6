/** Findings that take both the server and the storage. */
import type { Storage } from '../storage/storage.ts'
import { checkSystem } from '../walg/wal/system-binding.ts'
import { WalReader } from '../walg/wal/wal-reader.ts'
import { attempt, type AttemptOptions } from './attempt.ts'
import { failed, type Finding, note, ok, setting, skipped, words } from './finding.ts'
import type { ServerFacts } from './server/server-facts.ts'
import { segmentSizeOf } from './server/slot-findings.ts'
import type { StorageFacts } from './storage/storage-facts.ts'

/** The finding `storage.cluster`: whose archive it is. @param reason why the archive cannot be read; undefined where it can */
export async function clusterFinding(
  storage: Storage,
  { session, settings }: ServerFacts,
  reason: string | undefined,
  options: AttemptOptions,
): Promise<Finding> {
  const id = 'storage.cluster'
  if (reason !== undefined) return skipped(id, reason)
  if (!session.value) return skipped(id, 'there is no replication connection to ask for the system identifier')
  const { systemId } = session.value
  const cluster = { systemId, segmentSize: segmentSizeOf(settings) }
  const lateness = {
    code: 'WALRX_STORAGE_UNAVAILABLE',
    what: `${storage.location}, asked for its cluster,`,
    hint: 'see the findings of the storage',
  } as const
  const { error, value } = await attempt(options, lateness, (signal) =>
    checkSystem(storage, new WalReader(storage), cluster, { signal }),
  )
  if (!error) {
    const state = value === 'bound' ? 'belongs to' : 'is bound to no cluster yet, and can be bound to'
    return ok(id, `${storage.location} ${state} the cluster with system identifier ${systemId}`)
  }
  const isVerdict = ['WALRX_OTHER_CLUSTER', 'WALRX_OBJECT_DAMAGED'].includes(error.code)
  if (!isVerdict) return skipped(id, error.message)
  if (error.code !== 'WALRX_OTHER_CLUSTER') return failed(id, error)
  return failed(id, error, words(error.hint ?? ''), setting(`--storage-prefix=${systemId}`))
}

/** The finding `storage.device`. */
export function deviceFinding({ disk, session }: ServerFacts, { bucket, directory }: StorageFacts): Finding {
  const id = 'storage.device'
  if (bucket) return skipped(id, 'the archive is a bucket')
  if (session.value?.isLocal === false) return ok(id, 'the server is on another machine')
  if (disk?.device === undefined || !directory)
    return skipped(id, 'the file system of the data directory cannot be seen from here')
  if (disk.device !== directory.device) return ok(id, `${directory.path} is on another file system than ${disk.path}`)
  const text = `${directory.path} is on the file system of the data directory, ${disk.path}: one disk that fails takes both`
  return note(id, text, words('name a directory on another machine or disk with --file-prefix'))
}
