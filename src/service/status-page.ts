/** The status page of a process: of one service, or of several. */
import type { MetricsPage } from '../observe/metrics-page.ts'
import { type ListenAddress, type Readiness, StatusServer } from '../status/server.ts'
import type { ArchiveService } from './archive-service.ts'

/**
 * Listens, and shows the services of the list as it is at each request.
 * @throws WALRX_USAGE when the address can't be listened at
 */
export function openStatusPage(
  listen: ListenAddress,
  services: readonly Pick<ArchiveService, 'cluster' | 'readiness'>[],
  metrics: MetricsPage,
): Promise<StatusServer> {
  return StatusServer.open({
    ...listen,
    readiness: () => combinedReadiness(services),
    metrics: () => metrics.read(),
  })
}

/** Ready means that all are. One service speaks for itself; of several each has its place under `clusters`. */
export function combinedReadiness(services: readonly Pick<ArchiveService, 'cluster' | 'readiness'>[]): Readiness {
  const [only, ...others] = services
  if (only && others.length === 0) return only.readiness()
  const states = services.map((service) => ({ cluster: service.cluster, ...service.readiness() }))
  const late = states.filter(({ ready }) => !ready)
  const clusters = Object.fromEntries(
    states.map(({ cluster, details, ready, reason }) => [
      cluster,
      { status: ready ? 'ready' : 'not ready', ...(reason !== undefined && { reason }), ...details },
    ]),
  )
  if (late.length === 0) return { ready: true, details: { clusters } }
  const reason = late.map(({ cluster, reason: why }) => `${cluster}: ${why ?? 'not ready'}`).join('; ')
  return { ready: false, reason, details: { clusters } }
}
