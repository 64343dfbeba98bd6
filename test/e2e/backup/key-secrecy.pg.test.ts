/** A whole life of an archive, at log level debug: the key is nowhere but where the operator has put it. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type FakeStartup, startFakeStartup } from '../../harness/postgres/fake-startup.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { descendants } from '../../harness/walrx/processes.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

const key = randomBytes(32)
const hex = key.toString('hex')

/** Everything that would show it. The beginnings are enough to know it by. */
const forms: readonly Buffer[] = [
  key.subarray(0, 16),
  ...[hex, hex.toUpperCase(), key.toString('base64'), key.toString('base64url')].map((form) =>
    Buffer.from(form.slice(0, 40)),
  ),
  Buffer.from(Buffer.from(hex).toString('base64').slice(0, 40)),
]

const shows = (bytes: Buffer) => forms.some((form) => bytes.includes(form))

/** Arguments of all processes below this one, as far as they are seen. */
class Arguments implements AsyncDisposable {
  readonly seen = new Set<string>()
  #isDone = false
  readonly #looking = this.#look()

  async #look(): Promise<void> {
    while (!this.#isDone) {
      for (const pid of await descendants(process.pid)) {
        this.seen.add(await readFile(`/proc/${pid}/cmdline`, 'latin1').catch(() => ''))
      }
      await delay(100)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDone = true
    await this.#looking
  }
}

describe('a key', () => {
  let server: TestPostgres
  before(async () => {
    server = await startPostgres({ major: 17, segmentSizeMb: 1 })
  })
  after(() => server[Symbol.asyncDispose]())

  for (const from of ['a variable', 'a command'] as const) {
    test(`from ${from} is in no output, no file and no arguments`, { timeout: 120_000 }, async () => {
      const root = await mkdtemp(join(tmpdir(), 'walrx-secrecy-'))
      const vault = await mkdtemp(join(tmpdir(), 'walrx-vault-'))
      let startup: FakeStartup | undefined
      try {
        const runs = join(root, 'runs')
        const script = `echo run >>${runs}; cat /proc/$$/cmdline /proc/$PPID/cmdline >>${root}/arguments; cat ${vault}/key`
        await writeFile(join(vault, 'key'), hex, { mode: 0o600 })
        assert.ok(shows(await readFile(join(vault, 'key'))))
        const source = from === 'a variable' ? { WALG_LIBSODIUM_KEY: hex } : { WALRX_KEY_COMMAND: script }
        const env = {
          ...source,
          HOME: root,
          WALG_FILE_PREFIX: join(root, 'archive'),
          WALG_LIBSODIUM_KEY_TRANSFORM: 'hex',
          WALRX_LOG_LEVEL: 'debug',
        }
        await mkdir(join(root, 'archive'))
        const texts: string[] = []
        let expectedRuns = 0
        const countRuns = async (added: number) => {
          expectedRuns += from === 'a command' ? added : 0
          const counted = existsSync(runs) ? (await readFile(runs, 'utf8')).split('\n').length - 1 : 0
          assert.equal(counted, expectedRuns)
        }
        const run = async (keys: number, status: number, ...args: string[]) => {
          const end = await runWalrx(args, { env, cwd: root })
          texts.push(end.stdout, end.stderr)
          assert.equal(end.status, status, `${args.join(' ')}: ${end.stderr}`)
          await countRuns(keys)
          return end
        }
        await using processes = new Arguments()
        await using receiver = startWalrx(['wal-receive', '--dbname', server.conninfo(), '--slotname', from.slice(2)], {
          env,
        })
        await until('the stream', () => /"msg":"streaming|stream/.test(receiver.stderr))
        await until('the archive to be bound', () => existsSync(join(root, 'archive/walrx_005/system.json')))
        await countRuns(1)
        await run(1, 0, 'backup-push', '--json', '--dbname', server.conninfo())
        for (let turn = 0; turn < 4; turn++) {
          await server.sql('create table if not exists t(i int)')
          await server.sql('insert into t values (1)')
          await server.sql('select pg_switch_wal()')
        }
        const stopped = await receiver.stop()
        assert.equal(stopped.status, 0, stopped.stderr)
        texts.push(stopped.stdout, stopped.stderr)

        await run(0, 0, 'backup-list', '--detail', '--json')
        // It reads walrx.json.
        await run(1, 0, 'backup-show', 'LATEST')
        await run(0, 0, 'restore-command')
        await run(1, 0, 'backup-verify', 'LATEST', '--json')
        const restored = await run(1, 0, 'backup-fetch', 'data', 'LATEST', '--recover')
        assert.match(restored.stdout, /secrets are not shown.*: (WALG_LIBSODIUM_KEY|WALRX_KEY_COMMAND)\n/)
        await run(0, 2, 'backup-fetch', 'data', 'LATEST', `--libsodium-key=${hex}`)

        // A recovery: the first segment, the prefetcher that this starts, and a segment that it has made ready.
        const names = (await readdir(join(root, 'archive/wal_005'))).filter((name) => /^[0-9A-F]{24}\./.test(name))
        const [first = '', second = ''] = names.map((name) => name.slice(0, 24)).sort()
        const dataDir = join(root, 'data')
        startup = await startFakeStartup(dataDir)
        const folder = join(dataDir, 'pg_wal/.walrx', String(startup.pid))
        const fetch = async (name: string) => {
          const args = ['wal-fetch', '--recovery-pid', String(startup?.pid), name, 'pg_wal/RECOVERYXLOG']
          const end = await runWalrx(args, { env, cwd: dataDir })
          texts.push(end.stdout, end.stderr)
          assert.equal(end.status, 0, end.stderr)
        }
        await fetch(first)
        await until('the next segment', () => existsSync(join(folder, second)))
        await countRuns(2)
        const owner = JSON.parse(await readFile(join(folder, 'owner'), 'utf8')) as { prefetcher: { pid: number } }
        processes.seen.add(await readFile(`/proc/${owner.prefetcher.pid}/cmdline`, 'latin1'))
        await fetch(second)
        await countRuns(0)

        for (const text of texts) assert.ok(!shows(Buffer.from(text)), text.slice(0, 2000))
        assert.ok([...processes.seen].some((words) => words.includes('wal-prefetch')))
        for (const words of processes.seen)
          assert.ok(!shows(Buffer.from(words, 'latin1')) || words.includes('--libsodium-key='))
        await startup.end()
        await until('the end of the prefetcher', () => !existsSync(join(dataDir, 'pg_wal/.walrx')))
        const files = await readdir(root, { recursive: true, withFileTypes: true })
        const paths = files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name))
        assert.ok(paths.length > 900, String(paths.length))
        for (const path of paths) assert.ok(!shows(await readFile(path)), path)
      } finally {
        await startup?.end()
        await rm(root, { recursive: true, force: true })
        await rm(vault, { recursive: true, force: true })
      }
    })
  }
})
