/** `walrx check`: the order of all steps. The server and the store are asked at the same time; neither waits for the other. */
import type { WriteCodec } from '../compression/codec.ts'
import type { Logger } from '../observe/log.ts'
import type { Storage } from '../storage/storage.ts'
import type { AttemptOptions } from './attempt.ts'
import { clusterFinding, deviceFinding } from './both-sides.ts'
import { checkIds, groupOf } from './check-table.ts'
import type { CheckWish } from './check-wish.ts'
import { clockFinding } from './clock-finding.ts'
import { type Finding, skipped } from './finding.ts'
import { keyFindings } from './key-findings.ts'
import { machineFindings, type MachineWish } from './machine/machine-findings.ts'
import { readMachine } from './machine/machine-facts.ts'
import { connectionFindings } from './server/connection-findings.ts'
import { readServer } from './server/read-server.ts'
import type { ServerFacts } from './server/server-facts.ts'
import { segmentSizeOf, slotFindings } from './server/slot-findings.ts'
import { settingFindings } from './server/setting-findings.ts'
import { syncFinding } from './server/sync-finding.ts'
import { deepFinding, deepTrial } from './storage/deep.ts'
import { directoryFindings } from './storage/directory-findings.ts'
import { isOut, probeStore, type StorePlace, withoutTraces } from './storage/probe-store.ts'
import type { StorageFacts } from './storage/storage-facts.ts'
import { storageFindings } from './storage/storage-findings.ts'

/** What is checked. */
export interface CheckRequest {
  /** Undefined where the settings of the server cannot be used. */
  readonly wish: CheckWish | undefined
  /** Undefined where the settings of the archive cannot be used. */
  readonly archive: { readonly storage: Storage; readonly place: StorePlace; readonly codec: WriteCodec } | undefined
  /** The findings `server.settings` and `storage.settings`, and what takes the place of one that settings make impossible. */
  readonly settings: readonly Finding[]
  readonly machine: Omit<MachineWish, 'segmentSize'>
  /** Also {@link deepTrial}. */
  readonly isDeep: boolean
  readonly log: Logger
}

/**
 * Checks all.
 * @returns one finding for each id of the table, in its order
 * @throws only the signal's reason
 */
export async function runCheck(request: CheckRequest, options: AttemptOptions): Promise<Finding[]> {
  const { archive } = request
  return archive
    ? await withoutTraces(archive.place, options.clock, () => checkAll(request, options))
    : await checkAll(request, options)
}

async function checkAll(request: CheckRequest, options: AttemptOptions): Promise<Finding[]> {
  const { archive, log, machine, settings, wish } = request
  const asked = [
    wish ? readServer(wish, { ...options, log }) : Promise.resolve(undefined),
    archive ? probeStore(archive.storage, archive.place, options) : Promise.resolve(undefined),
    readMachine(machine.listen, options.clock),
  ] as const
  // After a signal too, what was written is removed before the storage is closed.
  await Promise.allSettled(asked)
  const [server, store, own] = await Promise.all(asked)
  const segmentSize = segmentSizeOf(server?.settings ?? new Map())
  const found = [
    ...settings,
    ...(wish && server ? serverFindings(server, wish, options.clock.now()) : []),
    ...(store ? [...storageFindings(store), ...directoryFindings(store)] : []),
    ...(archive && store ? await archiveFindings({ ...request, archive, server, store, segmentSize }, options) : []),
    ...machineFindings(own, { ...machine, segmentSize }),
  ]
  return checkIds.map((id) => found.find((finding) => finding.id === id) ?? skipped(id, reasonOf(id, request)))
}

function serverFindings(facts: ServerFacts, wish: CheckWish, nowMs: number): Finding[] {
  const clock = facts.sql.value && { aheadMs: facts.sql.value.clockAheadMs, errorMs: facts.sql.value.clockErrorMs }
  return [
    ...connectionFindings(facts, wish, nowMs),
    ...settingFindings(facts, wish),
    syncFinding(facts.settings, wish),
    clockFinding('server.clock', 'the server', clock, 'it takes an ordinary connection'),
    ...slotFindings(facts, wish),
  ]
}

interface ArchiveRequest extends CheckRequest {
  readonly archive: NonNullable<CheckRequest['archive']>
  readonly server: ServerFacts | undefined
  readonly store: StorageFacts
  readonly segmentSize: number
}

/** What reads the archive, or writes much. */
async function archiveFindings(request: ArchiveRequest, options: AttemptOptions): Promise<Finding[]> {
  const { archive, isDeep, segmentSize, server, store } = request
  const { codec, storage } = archive
  const reason = unreadable(store)
  const noServer = skipped('storage.cluster', 'the settings of the server cannot be used')
  const unwritten = isDeep ? 'no object can be stored and read back' : '--deep is not given'
  const isWritable = store.put?.value === true && store.get?.value === true
  const trial = isDeep && isWritable ? await deepTrial(storage, { codec, segmentSize }, options) : undefined
  return [
    server ? await clusterFinding(storage, server, reason, options) : noServer,
    ...(server ? [deviceFinding(server, store)] : []),
    deepFinding(trial, unwritten),
    ...(await keyFindings(storage, reason, options)),
  ]
}

/** Why nothing can be read from the archive; undefined where it can. */
function unreadable({ get, list, location, put }: StorageFacts): string | undefined {
  if (list.error) return `${location} cannot be listed`
  if (put && isOut(put)) return 'the store does not answer'
  return get?.error ? 'no object can be read' : undefined
}

/** Why there is no finding. */
function reasonOf(id: Finding['id'], { archive, wish }: CheckRequest): string {
  const group = groupOf(id)
  if ((group === 'Server' || group === 'Slot') && !wish) return 'the settings of the server cannot be used'
  return archive ? 'the server could not be asked' : 'the settings of the archive cannot be used'
}
