/**
 * `npm test`: every test below `test/`, or the files that are named. First the pure ones, as many at a time as there
 * are cores; then those with servers and buckets, half as many again, for they wait a lot; then those that measure how
 * much is lost in a time, one by one. `WALRX_TEST_ALL=1` runs the full lists on all versions of PostgreSQL, and more trials (see
 * harness/extent.ts). At the end it says which tests were skipped, and why.
 *
 *     npm test -- [--test-timeout=600s] [--test-name-pattern=TEXT] [FILE …]
 */
import { once } from 'node:events'
import { chmodSync, globSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import process from 'node:process'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { parseDurationMs } from '../src/config/options/option-values.ts'
import { isFullRun } from './harness/extent.ts'

const top = fileURLToPath(new URL('..', import.meta.url))

/** Tests that start servers or talk to a bucket. */
const heavy = /\.(pg|s3)\.test\.ts$/

/** Those among them that measure times, which others beside them would spoil. */
const alone = /e2e\/\w+\/rpo\S*\.(pg|s3)\.test\.ts$/

/** Those of either kind that take longest: begun first, they leave no core idle at the end. */
const longest = new Set(
  [
    [
      'quick-start.pg',
      'recovery.pg',
      'recovery-target.pg',
      'slow-store.s3',
      'deltas.pg',
      'backup-plan.pg',
      'damage.pg',
      'own-cluster.pg',
      's3-actions.pg',
      'plaintext.s3',
    ],
    ['store-out.s3', 'delta-fallbacks.pg', 'backup-kills.pg', 'kill-steps.s3', 'reconnect.pg', 'point-in-time.pg'],
    ['receive', 'golden-chains', 'backup-commands'],
  ]
    .flat()
    .map((name) => `${name}.test.ts`),
)

/** What happened to the tests of all phases. */
const outcome = { passed: 0, failed: [] as string[], skipped: [] as string[], seconds: new Map<string, number>() }

/** How many of the slowest files are named at the end. */
const slowestShown = 25

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    // For one test, and for one file as well.
    'test-timeout': { type: 'string', default: '15m' },
    'test-name-pattern': { type: 'string', multiple: true },
  },
})
const timeout = parseDurationMs(values['test-timeout'])
if (timeout === undefined) throw new Error(`--test-timeout=${values['test-timeout']} is no duration like 600s`)

const files = positionals.length > 0 ? positionals : globSync('test/**/*.test.ts', { cwd: top }).sort()
const cores = availableParallelism()
process.chdir(top)
console.log(isFullRun ? 'everything (WALRX_TEST_ALL=1)' : 'the usual extent; WALRX_TEST_ALL=1 runs everything')
await withShared(async () => {
  const isLong = (file: string) => longest.has(basename(file))
  const ordered = [...files.filter(isLong), ...files.filter((file) => !isLong(file))]
  await runPhase(
    ordered.filter((file) => !heavy.test(file)),
    cores,
  )
  await runPhase(
    ordered.filter((file) => heavy.test(file) && !alone.test(file)),
    Math.ceil(cores * 1.5),
  )
  await runPhase(
    files.filter((file) => alone.test(file)),
    1,
  )
})
summarise()

/** Runs some files, each in a process of its own. */
async function runPhase(phase: readonly string[], concurrency: number): Promise<void> {
  if (phase.length === 0) return
  const patterns = values['test-name-pattern']
  const events = run({
    files: phase.map((file) => join(top, file)),
    concurrency,
    ...(timeout !== undefined && { timeout }),
    ...(patterns && { testNamePatterns: patterns }),
  })
  events.on('test:pass', ({ name, file, skip, details }) => {
    const where = file === undefined ? '' : `${file.slice(top.length)}: `
    if (skip !== undefined) outcome.skipped.push(`${where}${name}${typeof skip === 'string' ? ` (${skip})` : ''}`)
    else if (details.type !== 'suite') outcome.passed++
  })
  events.on('test:fail', ({ name, file, todo, details }) => {
    if (todo !== undefined) return
    const why = details.error.cause instanceof Error ? details.error.cause.message : details.error.message
    outcome.failed.push(`${file === undefined ? '' : `${file.slice(top.length)}: `}${name}: ${shortened(why)}`)
  })
  events.on('test:summary', ({ file, duration_ms }) => {
    if (file !== undefined) outcome.seconds.set(file.slice(top.length), duration_ms / 1000)
  })
  const report = events.compose(spec)
  report.pipe(process.stdout, { end: false })
  await once(report, 'end')
}

/**
 * A directory in which the test processes share freshly initialised clusters, as initdb takes a second each, and what
 * Node has compiled: thousands of processes of walrx start, most for a moment.
 */
async function withShared(use: () => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'walrx-templates-'))
  chmodSync(directory, 0o755)
  process.env['WALRX_TEST_TEMPLATES'] = directory
  if (process.env['NODE_COMPILE_CACHE'] === undefined) {
    const cache = join(directory, 'compile-cache')
    mkdirSync(cache)
    // For the servers' user too; Node makes a folder for each user in it.
    chmodSync(cache, 0o1777)
    process.env['NODE_COMPILE_CACHE'] = cache
  }
  const remove = () => rmSync(directory, { recursive: true, force: true })
  process.once('exit', remove)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))
  await use()
}

/** An error's text on one line. */
function shortened(text: string): string {
  const line = text.replace(/\s+/g, ' ')
  return line.length > 300 ? `${line.slice(0, 300)}…` : line
}

function summarise(): void {
  const { passed, failed, skipped } = outcome
  const slowest = [...outcome.seconds].sort(([, a], [, b]) => b - a).slice(0, slowestShown)
  for (const [file, seconds] of slowest) console.log(`${seconds.toFixed(1).padStart(7)} s  ${file}`)
  console.log(`\n${passed} passed, ${failed.length} failed, ${skipped.length} skipped`)
  for (const each of skipped) console.log(`skipped  ${each}`)
  for (const each of failed) console.log(`FAILED   ${each}`)
  if (failed.length > 0 || passed === 0) process.exitCode = 1
}
