import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { register } from 'prom-client'
import { clusterMetricSpecs, metricSpecs, servedMetricSpecs } from '../../src/observe/metrics.ts'
import { MetricsPage } from '../../src/observe/metrics-page.ts'

/** The text of a page. */
async function textOf(page: MetricsPage): Promise<string> {
  return (await page.read()).text
}

describe('the page of metrics', () => {
  test('offers every metric of the list, with help and cluster, from the start', async () => {
    const page = new MetricsPage('1.2.3')
    page.addCluster('db1')
    const withoutServe = await textOf(page)
    for (const { name } of Object.values(servedMetricSpecs)) assert.ok(!withoutServe.includes(name), name)
    page.addServed('db1')
    const { contentType, text } = await page.read()
    assert.match(contentType, /^text\/plain; version=0\.0\.4/)
    for (const { name, help, type } of Object.values(metricSpecs)) {
      assert.ok(text.includes(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`), name)
    }
    for (const spec of Object.values(clusterMetricSpecs)) {
      if ('labels' in spec) continue
      const line = spec.type === 'histogram' ? `${spec.name}_count{cluster="db1"} 0` : `${spec.name}{cluster="db1"} `
      assert.ok(text.includes(`\n${line}`), spec.name)
    }
    assert.match(text, /^walrx_slot_safe_wal_bytes\{cluster="db1"\} Nan$/im)
    assert.match(text, /^walrx_build_info\{version="1\.2\.3",node="v\d+\.[^"]+"\} 1$/m)
    assert.match(text, /^process_resident_memory_bytes \d/m)
  })

  test('shows nothing without a cluster, so that no series goes by a wrong name', async () => {
    const text = await textOf(new MetricsPage('1'))
    const series = text.split('\n').filter((line) => line.startsWith('walrx_'))
    assert.equal(series.length, 1, series.join('\n'))
  })

  test('keeps to itself: two pages count apart, and the global registry stays empty', async () => {
    const [one, two] = [new MetricsPage('1'), new MetricsPage('1')]
    one.addCluster('a').segments.inc(3)
    two.addCluster('a')
    assert.match(await textOf(one), /^walrx_receive_segments_total\{cluster="a"\} 3$/m)
    assert.match(await textOf(two), /^walrx_receive_segments_total\{cluster="a"\} 0$/m)
    assert.equal(register.getMetricsAsArray().length, 0)
  })

  test('counts seconds in buckets', async () => {
    const page = new MetricsPage('1')
    page.addCluster('a').uploadSeconds.observe(0.02)
    const text = await textOf(page)
    assert.match(text, /^walrx_receive_upload_seconds_bucket\{le="0\.01",cluster="a"\} 0$/m)
    assert.match(text, /^walrx_receive_upload_seconds_bucket\{le="0\.025",cluster="a"\} 1$/m)
    assert.match(text, /^walrx_receive_upload_seconds_count\{cluster="a"\} 1$/m)
  })
})

describe('clusters on one page', () => {
  test('count apart, each asked for its gauges when the page is read', async () => {
    const page = new MetricsPage('1')
    const [a, b] = [page.addCluster('a'), page.addCluster('b')]
    let timeline = 1
    a.onRead = () => a.timeline.set(timeline++)
    a.receivedBytes.inc(5)
    a.receivedBytes.inc(6)
    b.receivedBytes.inc(70)
    for (const expected of [1, 2]) {
      const text = await textOf(page)
      assert.match(text, /^walrx_receive_received_bytes_total\{cluster="a"\} 11$/m)
      assert.match(text, /^walrx_receive_received_bytes_total\{cluster="b"\} 70$/m)
      assert.match(text, new RegExp(`^walrx_receive_timeline\\{cluster="a"\\} ${expected}$`, 'm'))
      assert.match(text, /^walrx_receive_timeline\{cluster="b"\} 0$/m)
    }
  })

  test('have the further labels of a metric beside their name', async () => {
    const page = new MetricsPage('1')
    const [a, b] = [page.addCluster('a'), page.addCluster('b')]
    a.gapBackups.inc(1, { outcome: 'done' })
    a.gapBackups.inc(1, { outcome: 'done' })
    a.gapBackups.inc(1, { outcome: 'failed' })
    for (const each of [a, b]) each.slotWalStatus.set(1, { status: 'extended' })
    a.slotWalStatus.reset()
    a.slotWalStatus.set(1, { status: 'lost' })
    const text = await textOf(page)
    assert.match(text, /^walrx_receive_gap_backups_total\{outcome="done",cluster="a"\} 2$/m)
    assert.match(text, /^walrx_receive_gap_backups_total\{outcome="failed",cluster="a"\} 1$/m)
    assert.deepEqual(text.match(/^walrx_slot_wal_status\{.*$/gm)?.sort(), [
      'walrx_slot_wal_status{status="extended",cluster="b"} 1',
      'walrx_slot_wal_status{status="lost",cluster="a"} 1',
    ])
  })

  test('go from it one by one, with all that they had, and may come again', async () => {
    const page = new MetricsPage('1')
    const [a] = [page.addCluster('a'), page.addCluster('b')]
    a.repairedBytes.inc(7, { host: 'db2:5432' })
    a.slotWalStatus.set(1, { status: 'lost' })
    a.durableSeconds.observe(1)
    a.segments.inc()
    await page.read()
    a.close()
    assert.doesNotMatch(await textOf(page), /cluster="a"/)
    assert.match(await textOf(page), /cluster="b"/)
    page.addCluster('a')
    a.close()
    assert.match(await textOf(page), /^walrx_receive_segments_total\{cluster="a"\} 0$/m)
  })

  test('cannot have the same name', () => {
    const page = new MetricsPage('1')
    page.addCluster('a')
    assert.throws(() => page.addCluster('a'), { code: 'WALRX_USAGE', message: /two clusters .* "a"/ })
  })
})

test('names carry room and unit, and only counters end in _total', () => {
  for (const { name, type, help } of Object.values(metricSpecs)) {
    assert.match(name, /^walrx_((receive|rpo|slot|tail|cluster|job)_[a-z_]+|build_info|synchronous)$/)
    assert.equal(name.endsWith('_total'), type === 'counter', name)
    assert.match(help.replace('walrx serve: ', 'S'), /^[A-Z1][^\n]*[^.\n]$/, name)
  }
})
