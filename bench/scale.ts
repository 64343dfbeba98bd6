/**
 * The bench of large archives: what it costs to show what they hold and to plan what could be deleted. Nothing is deleted:
 * the bucket is a rule (made-archive.ts), and the directory holds the same.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, open, truncate, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { ContenderProcess, type ProcessCost } from './contender-process.ts'
import { describeMachine, type Machine, programVersion } from './machine.ts'
import { MadeArchive, type MadeArchiveSize } from './made-archive.ts'
import { markdownTable } from './markdown.ts'
import { median } from './statistics.ts'
import { buildWalrx } from './walrx-build.ts'
import { checkout, type WorkDirectory } from './work-directory.ts'

/** Options of {@link benchScale}. */
export interface ScaleOptions extends MadeArchiveSize {
  readonly work: WorkDirectory
  readonly resultsDirectory: string
  readonly storage: 'file' | 's3'
  readonly rounds: number
  /** Milliseconds that the bucket takes for each LIST. */
  readonly listMs: number
  /** Milliseconds after which a tool is stopped, and its time is shown as more than that. */
  readonly askedMaxMs: number
  readonly say: (text: string) => void
}

interface Tool {
  readonly name: string
  readonly version: string
  readonly command: string
  /** Before the arguments of each call. */
  readonly args: readonly string[]
}

/** The arguments of a question for each tool that knows it. */
interface Question {
  readonly name: string
  readonly calls: Readonly<Record<string, readonly string[]>>
}

const questions: readonly Question[] = [
  {
    name: 'plan a deletion',
    calls: {
      walrx: ['delete', 'retain', 'FULL', '100'],
      'WAL-G': ['delete', 'retain', 'FULL', '100'],
      'WAL-RUS': ['delete', 'retain', 'FULL', '100'],
    },
  },
  { name: 'wal-show', calls: { walrx: ['wal-show'], 'WAL-G': ['wal-show'], 'WAL-RUS': ['wal-show'] } },
  {
    name: 'backup-list',
    calls: {
      walrx: ['backup-list', '--detail', '--json'],
      'WAL-G': ['backup-list', '--detail', '--json'],
      'WAL-RUS': ['backup-list', '--json'],
    },
  },
  { name: 'info', calls: { walrx: ['info', '--json'] } },
]

interface Run extends ProcessCost {
  readonly seconds: number
  /** True where it was stopped. */
  readonly isStopped: boolean
  readonly requests: Readonly<Record<string, number>> | undefined
}

interface Measured {
  readonly question: string
  readonly tool: string
  readonly runs: Run[]
  reason: string | undefined
}

/** Asks each tool each question, in turn. Writes `scale-<storage>.md` and `.json`. */
export async function benchScale(options: ScaleOptions): Promise<void> {
  const { resultsDirectory, rounds, say, storage, work } = options
  const tools = await findTools(work, say)
  const machine = await describeMachine(await work.made(), 'no server')
  await using archive = storage === 's3' ? await MadeBucket.start(options) : await MadeDirectory.write(options)
  const measured = questions.flatMap(({ calls, name }) =>
    tools.flatMap((tool) =>
      calls[tool.name] ? [{ question: name, tool: tool.name, runs: [], reason: undefined }] : [],
    ),
  ) as Measured[]
  for (let round = 1; round <= rounds; round++) {
    for (const each of measured.filter(({ reason }) => reason === undefined)) {
      const tool = tools.find(({ name }) => name === each.tool)
      const call = questions.find(({ name }) => name === each.question)?.calls[each.tool]
      if (!tool || !call) continue
      try {
        each.runs.push(await ask(tool, call, archive, options))
      } catch (error) {
        each.reason = (error as Error).message.split('\n', 1)[0]
      }
      const last = each.runs.at(-1)
      say(`round ${round}: ${each.question}, ${each.tool}: ${last ? secondsOf([last]) : each.reason}`)
    }
  }
  const text = render(options, machine, tools, measured)
  await mkdir(resultsDirectory, { recursive: true })
  const path = join(resultsDirectory, `scale-${storage}`)
  await writeFile(`${path}.md`, text)
  await writeFile(`${path}.json`, `${JSON.stringify({ machine, ...size(options), rounds, measured }, null, 2)}\n`)
  say(`\n${text}\nwritten to ${path}.md and .json`)
}

function size({ backups, listMs, segments }: ScaleOptions) {
  return { segments, backups, listMs }
}

async function findTools(work: WorkDirectory, say: (text: string) => void): Promise<Tool[]> {
  const main = await buildWalrx(work, say)
  const version = await programVersion(process.execPath, [main, '--version'])
  const tools: Tool[] = [{ name: 'walrx', version, command: process.execPath, args: [main] }]
  for (const [name, variable] of [
    ['WAL-G', 'WALG_BIN'],
    ['WAL-RUS', 'WALRUS_BIN'],
  ] as const) {
    const command = process.env[variable]
    if (command === undefined) say(`${name}: n/a, ${variable} is not set`)
    else tools.push({ name, version: await programVersion(command), command, args: [] })
  }
  return tools
}

async function ask(
  tool: Tool,
  call: readonly string[],
  archive: MadeBucket | MadeDirectory,
  { askedMaxMs, work }: ScaleOptions,
): Promise<Run> {
  const stateDirectory = await work.emptied('state')
  await archive.counts()
  const environment = {
    PATH: process.env['PATH'] ?? '',
    HOME: await work.made('home'),
    WALG_PG_WAL_SIZE: '1',
    ...archive.settings,
  }
  await using running = new ContenderProcess(
    { command: tool.command, args: [...tool.args, ...call], environment, endsByItself: true },
    stateDirectory,
  )
  const isStopped = await running.endsWithin(askedMaxMs)
  const seconds = (performance.now() - running.startedAtMs) / 1000
  return { seconds, isStopped, ...(await running.finish(isStopped)), requests: await archive.counts() }
}

/** The median; `> 300` where a run of them was stopped. */
function secondsOf(runs: readonly Run[]): string {
  const seconds = median(runs.map((run) => run.seconds))
  return runs.some(({ isStopped }) => isStopped) ? `> ${seconds.toFixed(0)}` : seconds.toFixed(1)
}

/** The archive as a bucket, in another process. */
class MadeBucket implements AsyncDisposable {
  readonly settings: Readonly<Record<string, string>>
  readonly #process: ChildProcess
  readonly #port: number

  private constructor(child: ChildProcess, port: number) {
    this.#process = child
    this.#port = port
    this.settings = {
      WALG_S3_PREFIX: 's3://made',
      AWS_ENDPOINT: `http://127.0.0.1:${port}`,
      AWS_REGION: 'us-east-1',
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_ACCESS_KEY_ID: 'made',
      AWS_SECRET_ACCESS_KEY: 'made',
    }
  }

  static async start({ backups, listMs, segments }: ScaleOptions): Promise<MadeBucket> {
    const args = [join(checkout, 'bench/made-bucket.ts'), ...[segments, backups, listMs].map(String)]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const [port] = (await once(createInterface(child.stdout), 'line')) as [string]
    return new MadeBucket(child, Number(port))
  }

  /** Requests since the last call. */
  async counts(): Promise<Record<string, number>> {
    const response = await fetch(`http://127.0.0.1:${this.#port}/counts`)
    return (await response.json()) as Record<string, number>
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await ended
  }
}

/** Segments at the end that are written as they are: the others are not read. */
const realSegments = 40

/** The archive as files. */
class MadeDirectory implements AsyncDisposable {
  readonly settings: Readonly<Record<string, string>>

  private constructor(directory: string) {
    this.settings = { WALG_FILE_PREFIX: directory }
  }

  /** Writes it, in place of what the last run has left. */
  static async write({ backups, say, segments, work }: ScaleOptions): Promise<MadeDirectory> {
    const directory = await work.emptied('scale')
    say(`writing an archive of ${segments} segments and ${backups} backups`)
    const archive = new MadeArchive({ segments, backups })
    const folders = new Set<string>()
    for (let index = 0; index < archive.count; index++) {
      const { key, modifiedMs } = archive.at(index)
      const path = join(directory, key)
      const folder = dirname(path)
      if (!folders.has(folder)) {
        await mkdir(folder, { recursive: true })
        folders.add(folder)
      }
      const isRead = !/^wal_005\/\d/.test(key) || key.includes('.history') || index + realSegments >= archive.count
      await writeFile(path, isRead ? archive.content(key) : 'made')
      // As large as its sentinel says, without taking that place.
      if (key.includes('/part_')) await truncate(path, archive.at(index).size)
      await utimes(path, modifiedMs / 1000, modifiedMs / 1000)
    }
    const handle = await open(directory)
    await handle.sync()
    await handle.close()
    return new MadeDirectory(directory)
  }

  /** Nobody counts what is asked of a file system. */
  async counts(): Promise<undefined> {
    return Promise.resolve(undefined)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve()
  }
}

function render(
  options: ScaleOptions,
  machine: Machine,
  tools: readonly Tool[],
  measured: readonly Measured[],
): string {
  const { backups, listMs, rounds, segments, storage } = options
  const where = storage === 's3' ? `a bucket that takes ${listMs} ms for each LIST of 1000 keys` : 'a directory'
  const heading = ['', 'tool', 'seconds', 'CPU-s', 'peak RSS MB', ...(storage === 's3' ? ['LIST', 'GET', 'HEAD'] : [])]
  const rows = measured
    .filter(({ runs }) => runs.length > 0)
    .map(({ question, runs, tool }) => {
      const column = (pick: (run: Run) => number, digits: number) => median(runs.map(pick)).toFixed(digits)
      return [
        question,
        tool,
        secondsOf(runs),
        column((run) => run.cpuSeconds, 1),
        column((run) => run.rssBytes / 1e6, 0),
        ...(storage === 's3'
          ? (['LIST', 'GET', 'HEAD'] as const).map((kind) => column((run) => run.requests?.[kind] ?? NaN, 0))
          : []),
      ]
    })
  const failed = measured.filter(({ reason }) => reason !== undefined)
  return `${[
    `# Questions to an archive of ${segments} segments and ${backups} backups, in ${where}`,
    `${machine.date}. ${machine.cpu}, ${machine.memory} memory, ${machine.kernel}, ${machine.disk}; load before the run ` +
      `${machine.loadBefore}.\nNode ${machine.node}. ${tools.map(({ version }) => version).join('; ')}.`,
    `Medians of ${rounds} rounds. Every seventh backup is a full one. "plan a deletion" is \`delete retain FULL 100\` ` +
      'without `--confirm`; backup-list is the detailed list as JSON. The time is that of the whole process; a tool that takes longer than ' +
      `${options.askedMaxMs / 1000} s is stopped, and its other figures are those up to then.`,
    markdownTable([heading, ...rows]),
    ...failed.map(({ question, reason, tool }) => `- ${question}, ${tool}: n/a, ${reason}`),
  ].join('\n\n')}\n`
}
