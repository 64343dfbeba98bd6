/** What `/metrics` shows: the metrics of the process, and those of each cluster with a service in it. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { WalrxError } from '../primitives/errors.ts'
import {
  ClusterCounter,
  ClusterGauge,
  ClusterHistogram,
  type ClusterMetrics,
  type MetricSetOf,
  type ServedMetrics,
} from './cluster-metrics.ts'
import { buildInfoSpec, clusterMetricSpecs, type MetricSpec, servedMetricSpecs } from './metrics.ts'

/** A list of metrics, and the clusters that have them. */
interface Section {
  readonly specs: Readonly<Record<string, MetricSpec>>
  /** By the keys of the list. */
  readonly metrics: ReadonlyMap<string, Counter | Gauge | Histogram>
  readonly clusters: Map<string, AnySet>
}

type AnySet = MetricSetOf<Readonly<Record<string, MetricSpec>>>

/** A registry of its own, never that of prom-client: two of them in one process count apart. */
export class MetricsPage {
  readonly #registry = new Registry()
  readonly #services: Section
  #served: Section | undefined

  /**
   * With prom-client's metrics of the process and of Node.
   * @param version the version of this package, for `walrx_build_info`
   */
  constructor(version: string) {
    const register = this.#registry
    collectDefaultMetrics({ register })
    this.#services = openSection(clusterMetricSpecs, register)
    const { help, labels, name } = buildInfoSpec
    const buildInfo = new Gauge({ name, help, labelNames: labels, registers: [register] })
    buildInfo.set({ version, node: process.version }, 1)
  }

  /**
   * The metrics of a cluster's service, all at 0.
   * @param name value of the label `cluster`
   * @throws WALRX_USAGE for one that is there already
   */
  addCluster(name: string): ClusterMetrics {
    const metrics = addTo(this.#services, name) as unknown as ClusterMetrics
    metrics.slotSafeWal.set(NaN)
    return metrics
  }

  /**
   * The metrics of a cluster that is served, all at 0; the page has them from the first one on.
   * @throws WALRX_USAGE for one that is there already
   */
  addServed(name: string): ServedMetrics {
    this.#served ??= openSection(servedMetricSpecs, this.#registry)
    return addTo(this.#served, name) as unknown as ServedMetrics
  }

  /** The text in Prometheus's format, and its content type. */
  async read(): Promise<{ readonly contentType: string; readonly text: string }> {
    for (const { clusters, specs } of [this.#services, ...(this.#served ? [this.#served] : [])]) {
      for (const metrics of clusters.values()) {
        metrics.onRead?.()
        for (const [key, { labels }] of Object.entries(specs)) {
          const metric = metrics[key] as ClusterCounter | ClusterGauge | ClusterHistogram
          if (!labels && 'flush' in metric) metric.flush()
        }
      }
    }
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() }
  }
}

function openSection(specs: Section['specs'], register: Registry): Section {
  const entries = Object.entries(specs).map(([key, spec]) => [key, createMetric(spec, register)] as const)
  return { specs, metrics: new Map(entries), clusters: new Map() }
}

function addTo({ clusters, metrics }: Section, name: string): AnySet {
  if (clusters.has(name)) {
    throw new WalrxError('WALRX_USAGE', `two clusters of one process have the name "${name}"`, {
      hint: 'a name is the last folder of the archive, else the bucket: give one of the archives another last folder',
    })
  }
  const entries = [...metrics].map(([key, metric]) => [key, clusterMetric(metric, { cluster: name })] as const)
  const added = {
    ...Object.fromEntries(entries),
    onRead: undefined,
    close: () => {
      if (clusters.get(name) !== added) return
      clusters.delete(name)
      for (const [, metric] of entries) metric.remove()
    },
  } as unknown as AnySet
  clusters.set(name, added)
  return added
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
