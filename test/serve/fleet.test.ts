/** Changes of a configuration: what ends, what begins, and in which order. */
import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { MetricsPage } from '../../src/observe/metrics-page.ts'
import { silentLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import type { ClusterPlan, JobPlan } from '../../src/serve/configuration/cluster-plan.ts'
import type { Configuration } from '../../src/serve/configuration/read-configuration.ts'
import { Fleet } from '../../src/serve/fleet.ts'
import { Schedule } from '../../src/serve/schedule/schedule.ts'
import type { ArchiveService } from '../../src/service/archive-service.ts'
import type { ServiceSettings } from '../../src/service/service-settings.ts'
import { until } from '../harness/time/until.ts'

const directory = mkdtempSync(join(tmpdir(), 'walrx-fleet-'))
after(() => rmSync(directory, { recursive: true }))

const place = { line: 1, column: 1 }
const everySecond: JobPlan = {
  name: 'backup',
  call: { command: 'backup-push', environment: {}, flags: new Map(), words: [] },
  triggers: [{ name: 'schedule', text: '*', schedule: new Schedule(['* * * * * *'], 'UTC') }],
  timeZone: 'UTC',
  jitterMs: 0,
  timeoutMs: 1e9,
}

function planOf(name: string, environment: Record<string, string>, jobs: readonly JobPlan[] = []): ClusterPlan {
  const receive = { command: 'wal-receive', environment, flags: new Map(), words: [] } as const
  return { name, place, receive, jobs, memoryBytes: undefined, secrets: [], places: new Map() }
}

function configurationOf(...clusters: ClusterPlan[]): Configuration {
  return {
    ...{ listen: 'off', memoryBytes: 1, jobsMax: 2, nice: 0, stateDirectory: directory, clusters },
    shares: new Map(clusters.map(({ name }) => [name, 1])),
  } as unknown as Configuration
}

/** @param script of each job */
function open(configuration: Configuration, script = '') {
  const events: string[] = []
  const releases: (() => void)[] = []
  const fleet = new Fleet(
    {
      clock: systemClock,
      random: Math.random,
      log: silentLog,
      metrics: new MetricsPage('1'),
      serviceSettings: ({ name }) => Promise.resolve({ cluster: name } as ServiceSettings),
      launch: () => ({ command: [process.execPath, '-e', script], environment: { PATH: process.env['PATH'] } }),
      openService: (({ cluster }: ServiceSettings) => {
        const run = async (drain: AbortSignal) => {
          events.push(`${cluster} begins`)
          await new Promise<void>((resolve) => {
            if (drain.aborted) resolve()
            drain.addEventListener('abort', () => void releases.push(resolve))
          })
          events.push(`${cluster} has drained`)
        }
        const close = () => Promise.resolve()
        return Promise.resolve({ run, close, readiness: () => ({ ready: true, details: {} }), resizeMemory: () => {} })
      }) as unknown as typeof ArchiveService.open,
    },
    configuration,
  )
  return { fleet, events, releases, release: () => void releases.splice(0).forEach((each) => each()) }
}

const never = new AbortController().signal

describe('a fleet', { timeout: 60_000 }, () => {
  test('begins a cluster under another name when the old one has drained', async () => {
    const { events, fleet, release, releases } = open(configurationOf(planOf('a', { WALG_FILE_PREFIX: '/x' })))
    fleet.start()
    await until('a to begin', () => events.length === 1)
    const applied = fleet.apply(configurationOf(planOf('b', { WALG_FILE_PREFIX: '/x' })))
    await until('a to drain', () => releases.length === 1)
    assert.deepEqual(events, ['a begins'])
    release()
    await applied
    await until('b to begin', () => events.length === 3)
    assert.deepEqual(events, ['a begins', 'a has drained', 'b begins'])
    const closed = fleet.close(never)
    await until('b to drain', () => releases.length === 1)
    release()
    await closed
  })

  test('a stop while a receiver begins again leaves none that has not drained', async () => {
    const { events, fleet, release, releases } = open(configurationOf(planOf('a', { A: '1' })))
    fleet.start()
    await until('a to begin', () => events.length === 1)
    const applied = fleet.apply(configurationOf(planOf('a', { A: '2' }), planOf('b', {})))
    await until('a to drain', () => releases.length === 1)
    let isClosed = false
    const closed = fleet.close(never).then(() => (isClosed = true))
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(isClosed, false)
    release()
    await Promise.all([closed, applied])
    assert.deepEqual(events, ['a begins', 'a has drained'])
  })

  test('a job ends when its cluster gets another archive, or another name', async () => {
    const [running, twice] = [join(directory, 'running'), join(directory, 'twice')]
    const script = `
      const fs = require('fs')
      if (fs.existsSync('${running}')) fs.writeFileSync('${twice}', '')
      process.on('SIGTERM', () => setTimeout(() => { fs.rmSync('${running}'); process.exit(143) }, 100))
      fs.writeFileSync('${running}', '')
      setInterval(() => {}, 1000)`
    const { events, fleet, release, releases } = open(
      configurationOf(planOf('a', { WALG_FILE_PREFIX: '/x' }, [everySecond])),
      script,
    )
    fleet.start()
    const isRunning = () => fleet.snapshot().clusters[0]?.jobs[0]?.state === 'running' && existsSync(running)
    await until('the job to run', isRunning)
    for (const next of [planOf('a', { WALG_FILE_PREFIX: '/y' }, [everySecond]), planOf('b', {}, [everySecond])]) {
      const applied = fleet.apply(configurationOf(next))
      await until('the receiver to drain', () => releases.length === 1)
      release()
      await applied
      await until('the job to run again', isRunning)
    }
    assert.equal(existsSync(twice), false)
    const closed = fleet.close(never)
    await until('b to drain', () => releases.length === 1)
    release()
    await closed
    assert.equal(events.length, 6)
    writeFileSync(running, '')
  })
})
