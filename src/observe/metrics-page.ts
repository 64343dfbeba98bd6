/** What `/metrics` shows: the metrics of the process, and those of each cluster with a service in it. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { WalrxError } from '../primitives/errors.ts'
import {
  ClusterCounter,
  ClusterGauge,
  ClusterHistogram,
  type ClusterMetrics,
  type ClusterMetricSet,
} from './cluster-metrics.ts'
import { buildInfoSpec, clusterMetricSpecs, type MetricSpec } from './metrics.ts'

/** A registry of its own, never that of prom-client: two of them in one process count apart. */
export class MetricsPage {
  readonly #registry = new Registry()
  /** By the keys of the list. */
  readonly #metrics: ReadonlyMap<string, Counter | Gauge | Histogram>
  readonly #clusters = new Map<string, ClusterMetrics>()

  /**
   * With prom-client's metrics of the process and of Node.
   * @param version the version of this package, for `walrx_build_info`
   */
  constructor(version: string) {
    const register = this.#registry
    collectDefaultMetrics({ register })
    const entries = Object.entries<MetricSpec>(clusterMetricSpecs)
    this.#metrics = new Map(entries.map(([key, spec]) => [key, createMetric(spec, register)]))
    const { help, labels, name } = buildInfoSpec
    const buildInfo = new Gauge({ name, help, labelNames: labels, registers: [register] })
    buildInfo.set({ version, node: process.version }, 1)
  }

  /**
   * The metrics of a cluster, all at 0.
   * @param name value of the label `cluster`
   * @throws WALRX_USAGE for one that is there already
   */
  addCluster(name: string): ClusterMetrics {
    if (this.#clusters.has(name)) {
      throw new WalrxError('WALRX_USAGE', `two clusters of one process have the name "${name}"`, {
        hint: 'a name is the last folder of the archive, else the bucket: give one of the archives another last folder',
      })
    }
    const entries = [...this.#metrics].map(([key, metric]) => [key, clusterMetric(metric, { cluster: name })] as const)
    const metrics: ClusterMetrics = {
      ...(Object.fromEntries(entries) as unknown as ClusterMetricSet),
      onRead: undefined,
      close: () => {
        if (this.#clusters.get(name) !== metrics) return
        this.#clusters.delete(name)
        for (const [, metric] of entries) metric.remove()
      },
    }
    metrics.slotSafeWal.set(NaN)
    this.#clusters.set(name, metrics)
    return metrics
  }

  /** The text in Prometheus's format, and its content type. */
  async read(): Promise<{ readonly contentType: string; readonly text: string }> {
    for (const metrics of this.#clusters.values()) {
      metrics.onRead?.()
      for (const [key, { labels }] of Object.entries<MetricSpec>(clusterMetricSpecs)) {
        const metric = metrics[key as keyof ClusterMetricSet]
        if (!labels && 'flush' in metric) metric.flush()
      }
    }
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() }
  }
}

function createMetric({ buckets = [], help, labels = [], name, type }: MetricSpec, register: Registry) {
  const settings = { name, help, labelNames: ['cluster', ...labels], registers: [register] }
  if (type === 'counter') return new Counter(settings)
  if (type === 'gauge') return new Gauge(settings)
  return new Histogram({ ...settings, buckets: [...buckets] })
}

function clusterMetric(metric: Counter | Gauge | Histogram, cluster: { readonly cluster: string }) {
  if (metric instanceof Counter) return new ClusterCounter(metric, cluster)
  if (metric instanceof Gauge) return new ClusterGauge(metric, cluster)
  return new ClusterHistogram(metric, cluster)
}
