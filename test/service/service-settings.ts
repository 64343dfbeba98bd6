/** Settings of a service for tests: as wal-receive's options would have it, with what a test says laid over it. */
import { type Environment, loadSettings } from '../../src/config/load.ts'
import { silentLog } from '../../src/observe/log.ts'
import { MetricsPage } from '../../src/observe/metrics-page.ts'
import { parseConninfo } from '../../src/postgres/connect/conninfo.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import type { ServiceSettings } from '../../src/service/service-settings.ts'
import { until } from '../harness/time/until.ts'

/**
 * @param environment where the archive is, and other settings by the names of their variables
 * @param conninfo of the server
 */
export async function settingsFor(
  environment: Environment,
  conninfo: string,
  changes: Partial<ServiceSettings> = {},
): Promise<ServiceSettings> {
  const { values } = await loadSettings({ command: 'wal-receive', flags: new Map(), environment })
  return {
    cluster: 'db1',
    storage: values,
    compression: values,
    conninfo: parseConninfo(conninfo, { env: {} }),
    allowStandby: false,
    slot: { name: values.slotName, maxLagBytes: undefined, lagAction: 'warn' },
    memoryBytes: undefined,
    uploadConcurrency: values.uploadConcurrency,
    tailPace: { intervalMs: values.tailIntervalMs, bytesMax: values.tailBytes, isSynchronous: false },
    syncOutageMs: undefined,
    endpos: undefined,
    drainTimeoutMs: values.drainTimeoutMs,
    gapBackup: undefined,
    clock: systemClock,
    random: Math.random,
    log: silentLog,
    metrics: new MetricsPage('1'),
    ...changes,
  }
}

/** A signal that never comes. */
export function never(): AbortSignal {
  return new AbortController().signal
}

/** Handles, timers and sockets that keep the process alive, how many of each kind. */
export type Resources = ReadonlyMap<string, number>

/** Those of this moment. */
export function resources(): Resources {
  const counts = new Map<string, number>()
  for (const name of process.getActiveResourcesInfo()) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

/** Waits until there are no more of any kind than there were; a socket is gone a moment after it was closed. */
export async function nothingLeftSince(before: Resources): Promise<void> {
  const isMore = ([name, count]: [string, number]) => count > (before.get(name) ?? 0)
  await until('everything to be closed', () => ![...resources()].some(isMore), 10_000)
}
