/** The jobs of clusters with processes of their own, on a clock that runs fast. */
import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import { type LogFields, type Logger, silentLog } from '../../../src/observe/log.ts'
import type { JobPlan } from '../../../src/serve/configuration/cluster-plan.ts'
import type { JobName } from '../../../src/serve/configuration/shape.ts'
import { ClusterJobs } from '../../../src/serve/jobs/cluster-jobs.ts'
import { JobSlots } from '../../../src/serve/jobs/job-slots.ts'
import { type JobRecords, JobState } from '../../../src/serve/jobs/job-state.ts'
import { markOf, processStart, waitForLeft, waitForMarked } from '../../../src/serve/jobs/left-process.ts'
import { Schedule } from '../../../src/serve/schedule/schedule.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
import { until } from '../../harness/time/until.ts'

const directory = mkdtempSync(join(tmpdir(), 'walrx-jobs-'))
after(() => rmSync(directory, { recursive: true }))

function jobOf(name: JobName, pattern?: string, timeoutMs = 1e9): JobPlan {
  const triggers =
    pattern === undefined
      ? []
      : [{ name: 'schedule' as const, text: pattern, schedule: new Schedule([pattern], 'UTC') }]
  return {
    name,
    call: { command: 'scrub', environment: {}, flags: new Map(), words: [name] },
    triggers,
    timeZone: 'UTC',
    jitterMs: 0,
    timeoutMs,
  }
}

interface World {
  readonly jobs: ClusterJobs
  readonly runs: string[]
  readonly lines: LogFields[]
  readonly counts: string[]
}

let worlds = 0

/** @param script what a process does; `argv[1]` is its job */
function open(
  plans: readonly JobPlan[],
  script: string,
  options: { slots?: JobSlots; cluster?: string; factor?: number; holdOf?: (job: JobName) => string | undefined } = {},
): World {
  const lines: LogFields[] = []
  const log: Logger = {
    ...silentLog,
    child: () => log,
    info: (msg, fields) => void lines.push({ msg, ...fields }),
    warn: (msg, fields) => void lines.push({ msg, ...fields }),
    error: (msg, fields) => void lines.push({ msg, ...fields }),
  }
  const cluster = options.cluster ?? `c${worlds++}`
  const runs: string[] = []
  const counts: string[] = []
  const jobs = new ClusterJobs({
    cluster,
    jobs: plans,
    secrets: ['a-secret-of-the-cluster'],
    state: new JobState(directory, cluster, log),
    slots: options.slots ?? new JobSlots(1),
    launch: (call) => {
      runs.push(call.words[0] ?? '')
      return {
        command: [process.execPath, '-e', script, call.words[0] ?? ''],
        environment: { PATH: process.env['PATH'] },
      }
    },
    nice: () => 5,
    clock: new FastClock(options.factor ?? 1),
    random: () => 1,
    log,
    ...(options.holdOf && { holdOf: options.holdOf }),
    metrics: {
      jobRuns: { inc: (_by: number, labels: { outcome: string }) => void counts.push(labels.outcome) },
    } as never,
  })
  return { jobs, runs, lines, counts }
}

const kept = (cluster: string): JobRecords =>
  (JSON.parse(readFileSync(join(directory, `${cluster}.json`), 'utf8')) as { jobs: JobRecords }).jobs

describe('the jobs of a cluster', { timeout: 60_000 }, () => {
  test('run one at a time, and what the process logs is logged', async () => {
    const script = `
      console.error(JSON.stringify({ level: 'warn', time: 'x', msg: 'a warning of the job', code: 'X' }))
      console.log('a line with a-secret-of-the-cluster')
      console.error(JSON.stringify({ level: 'error', msg: 'it broke', hint: 'mend it' }))
      process.exit(5)`
    const { counts, jobs, lines } = open([jobOf('verify')], script)
    await jobs.open()
    assert.equal(await jobs.ask('verify', new AbortController().signal), 5)
    assert.ok(lines.some(({ msg, code }) => msg === 'a warning of the job' && code === 'X'))
    const [snapshot] = jobs.snapshot()
    assert.equal(snapshot?.record.last?.error, 'it broke (mend it)')
    assert.equal(snapshot?.state, 'idle', 'damage is not tried again')
    assert.deepEqual(counts, ['failed'])
    await jobs.close()
  })

  test('share the places with other clusters, in turn', async () => {
    const slots = new JobSlots(1)
    const log = join(directory, 'turns')
    const script = `const fs = require('fs'); fs.appendFileSync('${log}', '+'); setTimeout(() => fs.appendFileSync('${log}', '-'), 50)`
    const all = [0, 1, 2].map(() => open([jobOf('scrub')], script, { slots }))
    for (const { jobs } of all) await jobs.open()
    await Promise.all(all.map(({ jobs }) => jobs.ask('scrub', new AbortController().signal)))
    assert.equal(readFileSync(log, 'utf8'), '+-+-+-')
    for (const { jobs } of all) await jobs.close()
  })

  test('what fails for a while is tried again, on time', async () => {
    const marker = join(directory, 'marker')
    const script = `const fs = require('fs'); if (fs.existsSync('${marker}')) process.exit(0); fs.writeFileSync('${marker}', ''); process.exit(4)`
    // A minute passes in some milliseconds.
    const { counts, jobs, lines } = open([jobOf('scrub', '0 0 1 1 *')], script, { factor: 2000, cluster: 'again' })
    writeFileSync(
      join(directory, 'again.json'),
      JSON.stringify({
        version: 1,
        jobs: {
          scrub: { schedules: {}, handledMs: {}, pending: { mode: 'schedule', dueMs: 1, attempts: 0, notBeforeMs: 0 } },
        },
      }),
    )
    await jobs.open()
    await until('the second attempt', () => counts.length === 2)
    assert.deepEqual(counts, ['failed', 'succeeded'])
    assert.ok(lines.some(({ msg }) => msg === 'job failed, trying again'))
    await jobs.close()
    assert.equal(kept('again').scrub?.pending, undefined)
  })

  test('a service of keys that is out is asked again', async () => {
    const marker = join(directory, 'keys')
    const script = `
      const fs = require('fs')
      if (fs.existsSync('${marker}')) process.exit(0)
      fs.writeFileSync('${marker}', '')
      console.error(JSON.stringify({ level: 'error', msg: 'no key', code: 'WALRX_KEY_UNAVAILABLE' }))
      process.exit(2)`
    const pending = { mode: 'schedule', dueMs: 1, attempts: 0, notBeforeMs: 0 }
    writeFileSync(
      join(directory, 'keyless.json'),
      JSON.stringify({ version: 1, jobs: { scrub: { schedules: {}, handledMs: {}, pending } } }),
    )
    // Once a year: the second attempt is no run of the schedule.
    const { counts, jobs } = open([jobOf('scrub', '0 0 1 1 *')], script, { factor: 2000, cluster: 'keyless' })
    await jobs.open()
    await until('the second attempt', () => counts.length >= 2)
    assert.deepEqual(counts.slice(0, 2), ['failed', 'succeeded'])
    await jobs.close()
  })

  test('a stop ends the process, and the next start runs the job again', async () => {
    const first = open(
      [jobOf('scrub', '* * * * * *')],
      `process.on('SIGTERM', () => process.exit(143)); setInterval(() => {}, 1000); console.log('up')`,
      { cluster: 'stop' },
    )
    await first.jobs.open()
    await until('the job to run', () => first.lines.some(({ line }) => line === 'up'))
    await first.jobs.close()
    assert.deepEqual(first.counts, ['stopped'])
    assert.equal(kept('stop').scrub?.running, undefined)
    const second = open([jobOf('scrub', '0 0 1 1 *')], '', { cluster: 'stop' })
    await second.jobs.open()
    await until('it to run again', () => second.counts.length === 1)
    assert.deepEqual(second.counts, ['succeeded'])
    await second.jobs.close()
  })

  test('one that is held begins when it may, and says once why it does not', async () => {
    let reason: string | undefined = 'whose archive is it?'
    const slots = new JobSlots(1)
    const world = open([jobOf('retention')], '', { slots, holdOf: () => reason })
    await world.jobs.open()
    const asked = world.jobs.ask('retention', new AbortController().signal)
    await until('it to be held', () => world.jobs.snapshot()[0]?.held === reason)
    world.jobs.wake()
    assert.equal(slots.taken, 0)
    assert.deepEqual(world.runs, [])
    assert.equal(world.lines.filter((line) => line['reason'] === reason).length, 1)
    reason = undefined
    world.jobs.wake()
    assert.equal(await asked, 0)
    await world.jobs.close()
  })

  test('one that hangs is ended in time', async () => {
    const { counts, jobs } = open([jobOf('scrub', undefined, 1000)], 'setInterval(() => {}, 1000)', { factor: 1 })
    await jobs.open()
    assert.equal(await jobs.ask('scrub', new AbortController().signal), undefined)
    assert.deepEqual(counts, ['failed'])
    assert.match(jobs.snapshot()[0]?.record.last?.error ?? '', /did not end within 1 s/)
    await jobs.close()
  })

  test('a state of another shape is moved aside, and jobs run', async () => {
    for (const record of ['{"pending":{"mode":"schedule"}}', '{"schedules":null,"handledMs":{}}']) {
      writeFileSync(join(directory, 'shape.json'), `{"version":1,"jobs":{"scrub":${record}}}`)
      const { jobs, lines } = open([jobOf('scrub', '0 0 1 1 *')], '', { cluster: 'shape' })
      await jobs.open()
      assert.ok(lines.some(({ file }) => file === join(directory, 'shape.json.damaged')))
      assert.equal(await jobs.ask('scrub', new AbortController().signal), 0)
      await jobs.close()
    }
  })

  test('a state that is damaged is moved aside, and one that cannot be written stops nothing', async () => {
    writeFileSync(join(directory, 'bad.json'), '{"version": 1, "jo')
    const { jobs, lines } = open([jobOf('scrub')], '', { cluster: 'bad' })
    await jobs.open()
    assert.ok(lines.some(({ file }) => file === join(directory, 'bad.json.damaged')))
    assert.equal(await jobs.ask('scrub', new AbortController().signal), 0)
    await jobs.close()
    const nowhere = new JobState('/nonexistent/x', 'one', silentLog)
    await nowhere.write({})
  })
})

test('a process that an earlier walrx left is waited for, and another one of its id is not', async () => {
  const { spawn } = await import('node:child_process')
  const child = spawn('sleep', ['0.5'])
  const pid = child.pid as number
  const options = { clock: new FastClock(1), log: silentLog, signal: new AbortController().signal }
  const started = await processStart(pid)
  await waitForLeft({ pid, started: '1' }, options)
  assert.equal(child.exitCode, null)
  await waitForLeft({ pid, started }, options)
  assert.equal(await processStart(pid), undefined)
})

test('a process that nothing was written down about is found by its mark, and nothing else is', async () => {
  const { spawn } = await import('node:child_process')
  const mark = markOf(directory)
  const child = spawn('sleep', ['0.5'], { env: { ...process.env, ...mark } })
  const other = spawn('sleep', ['1000'], { env: { ...process.env, ...markOf(`${directory}-2`) } })
  const options = { clock: new FastClock(1), log: silentLog, signal: new AbortController().signal }
  await waitForMarked(mark, options)
  assert.equal(await processStart(child.pid as number), undefined)
  assert.notEqual(await processStart(other.pid as number), undefined)
  const gone = new Promise((resolve) => other.once('close', resolve))
  other.kill()
  await gone
  await waitForMarked(markOf(`${directory}-2`), options)
})
