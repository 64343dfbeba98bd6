/** Rounds of `walrx check`: what is wrong is provoked, found, mended by the printed advice to the letter, and gone. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import type { CheckId } from '../../../src/check/check-table.ts'
import type { FindingLevel, Step } from '../../../src/check/finding.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { requestsOfAction, type S3Action } from '../../harness/store/faulty-s3/s3-request.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

/** One finding of the JSON. */
export interface ShownFinding {
  readonly id: CheckId
  readonly level: FindingLevel
  readonly text: string
  readonly remedy: readonly Step[]
}

/** What a run of check has shown. */
export interface CheckRun {
  readonly status: number | null
  readonly findings: readonly ShownFinding[]
}

/** One thing that is wrong. */
export interface Misconfiguration {
  readonly what: string
  readonly id: CheckId
  readonly level: FindingLevel
  readonly says: RegExp
  readonly provoke?: () => Promise<unknown>
}

/** Where advice is carried out. */
export interface CheckWorld {
  readonly server: TestPostgres
  /** For programs that advice calls. */
  readonly root: string
  /** Rights of the key of the store. */
  readonly allowed: Set<S3Action>
}

/** Runs `walrx check --json`. */
export async function runCheck(args: readonly string[], env: Record<string, string> = {}): Promise<CheckRun> {
  const end = await runWalrx(['check', '--json', ...args], { env })
  assert.doesNotMatch(end.stderr, /\n\s+at /, 'a stack trace')
  const { findings } = JSON.parse(end.stdout || assert.fail(end.stderr)) as Pick<CheckRun, 'findings'>
  return { status: end.status, findings }
}

/** The finding with this id: every run has one for each. */
export function findingOf({ findings }: CheckRun, id: CheckId): ShownFinding {
  return findings.find((finding) => finding.id === id) ?? assert.fail(`there is no finding ${id}`)
}

/** Provokes, checks, mends, and checks again. */
export async function playRound(
  world: CheckWorld,
  cases: readonly Misconfiguration[],
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<void> {
  for (const { provoke } of cases) await provoke?.()
  const found = await runCheck(args, env)
  const steps: Step[] = []
  for (const { id, level, says, what } of cases) {
    const finding = findingOf(found, id)
    assert.equal(finding.level, level, `${what}: ${finding.text}`)
    assert.match(finding.text, says, what)
    const news = finding.remedy.filter(({ run, text }) => !steps.some((step) => step.run === run && step.text === text))
    assert.ok(
      finding.remedy.some(({ run }) => run !== 'do'),
      `${what}: nothing to paste in ${JSON.stringify(finding.remedy)}`,
    )
    steps.push(...news)
  }
  const more = await followAdvice(world, steps)
  const mended = await runCheck(withFlags(args, more), env)
  for (const { id, what } of cases) {
    const finding = findingOf(mended, id)
    assert.equal(finding.level, 'ok', `${what}, after ${steps.map(({ text }) => text).join(' ')}: ${finding.text}`)
  }
}

/** A flag that is there already is replaced, with its value. */
function withFlags(args: readonly string[], flags: readonly string[]): string[] {
  const replaced = new Set(flags.map((flag) => flag.split('=', 1)[0]))
  const kept = args.filter((arg, index) => !replaced.has(arg) && !replaced.has(args[index - 1]))
  return [...kept, ...flags]
}

const isRestart = ({ run, text }: Step) => run === 'server' && text.startsWith('pg_ctl restart')

/** Carries out each step once, restarts last. @returns the flags that are to be added */
async function followAdvice(world: CheckWorld, steps: readonly Step[]): Promise<string[]> {
  const flags: string[] = []
  const isReload = ({ text }: Step) => text === 'SELECT pg_reload_conf();'
  for (const step of steps.filter((each) => !isRestart(each) && !isReload(each))) {
    if (step.run === 'sql') await world.server.sql(step.text)
    else if (step.run === 'setting') flags.push(step.text)
    else if (step.run === 'policy') allow(world.allowed, step.text)
    else if (step.run !== 'do') await runShell(world, step.text)
  }
  // The server is a child of this process: it waits until the new configuration is in force.
  if (steps.some(isReload)) await world.server.reload()
  if (steps.some(isRestart)) await world.server.restart()
  return flags
}

function allow(allowed: Set<S3Action>, statement: string): void {
  const { Action, Effect, Resource } = JSON.parse(statement) as Record<string, string>
  assert.equal(Effect, 'Allow')
  assert.match(Resource ?? '', /^arn:aws:s3:::walrx-test(\/db1\/\*)?$/)
  const requests = requestsOfAction[(Action ?? '').replace('s3:', '')] ?? assert.fail(`no action ${Action}`)
  for (const request of requests) allowed.add(request)
}

/** With a psql that knows one answer, where the machine has none. */
async function runShell({ root, server }: CheckWorld, line: string): Promise<void> {
  const psql = join(root, 'psql')
  await writeFile(psql, `#!/bin/sh\necho '${join(server.dataDir, 'pg_hba.conf')}'\n`)
  await chmod(psql, 0o755)
  const env = { ...process.env, PATH: `${root}${delimiter}${process.env['PATH'] ?? ''}` }
  await promisify(execFile)('sh', ['-c', line], { env })
}
