/**
 * The metrics of one cluster: what its service counts, on metrics that it may share with the services of others. What
 * is counted or set stays here as plain numbers until the metrics are read, for some change with every message of the
 * stream.
 */
import type { Counter, Gauge, Histogram } from 'prom-client'
import type { clusterMetricSpecs, MetricSpec, servedMetricSpecs } from './metrics.ts'

/** Labels beside `cluster`, by name. */
export type LabelValues = Readonly<Record<string, string>>

/** A counter of one cluster. */
export class ClusterCounter {
  readonly #metric: Counter
  readonly #cluster: LabelValues
  #pending = 0
  readonly #labelled = new Map<string, LabelValues>()

  constructor(metric: Counter, cluster: LabelValues) {
    this.#metric = metric
    this.#cluster = cluster
  }

  /** @param labels for a counter that has more labels than the cluster */
  inc(by: number = 1, labels?: LabelValues): void {
    if (!labels) this.#pending += by
    else this.#metric.inc(remembered(this.#labelled, this.#cluster, labels), by)
  }

  /** Adds what was counted since the last time. */
  flush(): void {
    this.#metric.inc(this.#cluster, this.#pending)
    this.#pending = 0
  }

  /** Forgets this cluster. */
  remove(): void {
    for (const labels of [this.#cluster, ...this.#labelled.values()]) this.#metric.remove(labels)
  }
}

/** A gauge of one cluster; 0 until it is set. */
export class ClusterGauge {
  readonly #metric: Gauge
  readonly #cluster: LabelValues
  #value = 0
  readonly #labelled = new Map<string, LabelValues>()

  constructor(metric: Gauge, cluster: LabelValues) {
    this.#metric = metric
    this.#cluster = cluster
  }

  /** @param labels for a gauge that has more labels than the cluster */
  set(value: number, labels?: LabelValues): void {
    if (!labels) this.#value = value
    else this.#metric.set(remembered(this.#labelled, this.#cluster, labels), value)
  }

  /** Removes all values with more labels than the cluster. */
  reset(): void {
    for (const labels of this.#labelled.values()) this.#metric.remove(labels)
    this.#labelled.clear()
  }

  /** Shows the value that was set last. */
  flush(): void {
    this.#metric.set(this.#cluster, this.#value)
  }

  /** Forgets this cluster. */
  remove(): void {
    this.reset()
    this.#metric.remove(this.#cluster)
  }
}

/** A histogram of one cluster. */
export class ClusterHistogram {
  readonly #metric: Histogram
  readonly #cluster: LabelValues

  constructor(metric: Histogram, cluster: LabelValues) {
    this.#metric = metric
    this.#cluster = cluster
    metric.zero(cluster)
  }

  observe(value: number): void {
    this.#metric.observe(this.#cluster, value)
  }

  /** Forgets this cluster. */
  remove(): void {
    this.#metric.remove(this.#cluster)
  }
}

/** Labels with the cluster's, kept to be removed. */
function remembered(known: Map<string, LabelValues>, cluster: LabelValues, labels: LabelValues): LabelValues {
  const key = JSON.stringify(labels)
  const all = known.get(key) ?? { ...labels, ...cluster }
  known.set(key, all)
  return all
}

type ClusterMetricOf<S extends MetricSpec> = S['type'] extends 'counter'
  ? ClusterCounter
  : S['type'] extends 'gauge'
    ? ClusterGauge
    : ClusterHistogram

/** Metrics of one cluster by their keys in a list. */
export type MetricSetOf<S extends Readonly<Record<string, MetricSpec>>> = {
  readonly [K in keyof S]: ClusterMetricOf<S[K]>
} & {
  /** Called before the metrics are read: sets the gauges that are only known by asking. */
  onRead: (() => void) | undefined
  /** Removes this cluster from the metrics. May be called twice. */
  close(): void
}

/** The metrics of one cluster, from the start of its service to its end. */
export type ClusterMetrics = MetricSetOf<typeof clusterMetricSpecs>

/** The metrics of one cluster of `walrx serve`, for as long as its configuration has it. */
export type ServedMetrics = MetricSetOf<typeof servedMetricSpecs>
