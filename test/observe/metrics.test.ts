import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { register } from 'prom-client'
import { createMetrics, metricSpecs } from '../../src/observe/metrics.ts'

describe('createMetrics', () => {
  test('offers every metric of the list, with help, from the start', async () => {
    const text = await createMetrics('1.2.3').registry.metrics()
    for (const { name, help, type } of Object.values(metricSpecs)) {
      assert.ok(text.includes(`# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`), name)
    }
    assert.match(text, /^walrx_build_info\{version="1\.2\.3",node="v\d+\.[^"]+"\} 1$/m)
    assert.match(text, /^process_resident_memory_bytes \d/m)
  })

  test('keeps to itself: two sets count apart, and the global registry stays empty', async () => {
    const one = createMetrics('1')
    const two = createMetrics('1')
    one.segments.inc(3)
    assert.match(await one.registry.metrics(), /^walrx_receive_segments_total 3$/m)
    assert.match(await two.registry.metrics(), /^walrx_receive_segments_total 0$/m)
    assert.equal(register.getMetricsAsArray().length, 0)
  })

  test('counts seconds in buckets', async () => {
    const { uploadSeconds, registry } = createMetrics('1')
    uploadSeconds.observe(0.02)
    const text = await registry.metrics()
    assert.match(text, /^walrx_receive_upload_seconds_bucket\{le="0\.01"\} 0$/m)
    assert.match(text, /^walrx_receive_upload_seconds_bucket\{le="0\.025"\} 1$/m)
    assert.match(text, /^walrx_receive_upload_seconds_count 1$/m)
  })
})

test('names carry room and unit, and only counters end in _total', () => {
  for (const { name, type, help } of Object.values(metricSpecs)) {
    assert.match(name, /^walrx_((receive|rpo|slot|tail)_[a-z_]+|build_info|synchronous)$/)
    assert.equal(name.endsWith('_total'), type === 'counter', name)
    assert.match(help, /^[A-Z1][^\n]*[^.\n]$/, name)
  }
})
