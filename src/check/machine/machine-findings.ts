/** Findings of this machine and of this process. */
import { defaultMemoryBytes } from '../../receive/memory-budget.ts'
import type { ListenAddress } from '../../status/server.ts'
import { failure, type Finding, here, ok, setting, skipped, warning, words } from '../finding.ts'
import type { MachineFacts, PortState } from './machine-facts.ts'

const MiB = 1024 ** 2

/** What the process takes besides the pool, at most: docs/operations.md, "Memory". */
const processBytes = 100 * MiB

/** What the machine is for. */
export interface MachineWish {
  /** `--memory`; undefined for the default. */
  readonly memoryBytes: number | undefined
  /** wal_segment_size. */
  readonly segmentSize: number
  readonly listen: ListenAddress | undefined
  /** The name of the cluster in metrics. */
  readonly cluster: string
}

/** All findings of the group. */
export function machineFindings(facts: MachineFacts, wish: MachineWish): Finding[] {
  return [
    // main.ts lets no older one get so far.
    ok('machine.node', `Node.js is ${facts.nodeVersion}, and must be 22.15 or later`),
    openFiles(facts.openFilesMax),
    memory(facts.memoryMaxBytes, wish),
    statusPort(facts.port, wish),
  ]
}

/** Sockets to the store, segments, parts and connections of a busy receiver and a backup, with room to spare. */
const openFilesMin = 256

function openFiles(max: number | undefined): Finding {
  const id = 'machine.open_files'
  if (max === undefined) return skipped(id, 'the system does not show the limit')
  if (max >= openFilesMin) return ok(id, `the limit of open files is ${max === Infinity ? 'none' : max}`)
  const text = `the limit of open files is ${max}, and must be ${openFilesMin} at least`
  return warning(id, text, here('ulimit -n 4096'), words('under systemd: LimitNOFILE=4096 in the unit'))
}

function memory(max: number | undefined, { memoryBytes, segmentSize }: MachineWish): Finding {
  const id = 'machine.memory'
  const pool = memoryBytes ?? defaultMemoryBytes(segmentSize)
  const source = memoryBytes === undefined ? 'the default of --memory' : '--memory'
  const needed = pool + processBytes
  const shown = (bytes: number) => `${Math.ceil(bytes / MiB)}MB`
  if (memoryBytes !== undefined && memoryBytes < 2 * segmentSize) {
    const text = `--memory is ${shown(memoryBytes)}, and must hold two segments of ${shown(segmentSize)}`
    return failure(id, 2, text, setting(`--memory=${shown(defaultMemoryBytes(segmentSize))}`))
  }
  if (max === undefined) return ok(id, `there is no memory limit; a receiver takes some ${shown(needed)}`)
  const text = `the memory limit is ${shown(max)}; a receiver takes ${shown(needed)}: ${shown(pool)} by ${source}, and ${shown(processBytes)} for itself`
  if (max >= needed) return ok(id, text)
  const left = Math.floor((max - processBytes) / MiB) * MiB
  const raise = words(
    `raise the limit to ${shown(needed)} at least: MemoryMax= in the unit, or --memory of the container`,
  )
  return warning(id, text, raise, ...(left >= 2 * segmentSize ? [setting(`--memory=${shown(left)}`)] : []))
}

function statusPort(state: PortState | undefined, { cluster, listen }: MachineWish): Finding {
  const id = 'machine.status_port'
  if (!state || !listen) return skipped(id, '--status-listen is off')
  const address = `${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${listen.port}`
  if (state.kind === 'free') return ok(id, `${address} is free for the status page`)
  if (state.kind === 'walrx' && state.clusters.includes(cluster))
    return ok(id, `the receiver of ${cluster} has its status page at ${address}`)
  const other = setting(`--status-listen=${address.replace(/\d+$/, String((listen.port % 65_535) + 1))}`)
  if (state.kind === 'walrx') {
    const of = state.clusters.length === 0 ? 'another walrx' : `walrx for ${state.clusters.join(', ')}`
    return failure(id, 2, `${of} has its status page at ${address}, and ${cluster} needs another address`, other)
  }
  if (state.kind === 'taken')
    return failure(id, 2, `another program listens at ${address}, and the status page must be free to`, other)
  return failure(
    id,
    2,
    `the status page cannot listen at ${address}: ${state.code}`,
    words('name an address of this machine, and a port from 1024 on:'),
    setting('--status-listen=127.0.0.1:8432'),
  )
}
