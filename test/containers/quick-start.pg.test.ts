/**
 * What `docker compose up` does, without an engine: the Dockerfile's steps and the commands of image and services, with
 * a real server and a store. Hosts and ports are this machine's; commands, variables and the user are those of the files.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { parseDurationMs } from '../../src/config/options/option-values.ts'
import { freePort } from '../harness/ports.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { newServerDirectory } from '../harness/walrx/test-workspace.ts'
import { until } from '../harness/time/until.ts'
import { repository } from '../lint/source-files.ts'
import { composeFolder, dockerfile, service, walrxArguments } from './compose.ts'
import { Container } from './container.ts'
import { buildImage, type Image } from './image-build.ts'
import { startStore } from './store.ts'

const run = promisify(execFile)

const directory = newServerDirectory('image')
let image: Image
before(async () => {
  await mkdir(directory)
  image = await buildImage(dockerfile, repository, directory)
})
after(() => rm(directory, { recursive: true, force: true }))

test('the image holds what runs: the program, and the production packages of the lock file', async () => {
  const app = join(image.root, 'app')
  assert.deepEqual((await readdir(app)).sort(), ['dist', 'healthcheck.ts', 'node_modules', 'package.json'])
  const packages = async (path: string) => {
    const text = await readFile(path, 'utf8')
    return (JSON.parse(text) as { packages: Record<string, { dev?: boolean; optional?: boolean; integrity: string }> })
      .packages
  }
  const lock = await packages(join(repository, 'package-lock.json'))
  const installed = await packages(join(app, 'node_modules', '.package-lock.json'))
  for (const [path, { integrity }] of Object.entries(installed)) {
    assert.equal(integrity, lock[path]?.integrity, path)
    assert.ok(!lock[path]?.dev, `${path} is for development`)
  }
  // Of the optional ones there are only those of this platform.
  const needed = Object.entries(lock).filter(([path, { dev, optional }]) => path !== '' && !dev && !optional)
  for (const [path] of needed) assert.ok(installed[path], `${path} is not there`)
  const files = await readdir(join(app, 'node_modules'), { recursive: true })
  assert.deepEqual(
    files.filter((name) => /\.(d\.[mc]?ts|map)$/.test(name)),
    [],
  )
})

test('a receiver becomes healthy, each start of the service backup takes a backup, and SIGTERM ends well', async () => {
  await using server = await startPostgres({
    major: 17,
    fresh: true,
    dataChecksums: service('postgres').environment?.['POSTGRES_INITDB_ARGS'] === '--data-checksums',
    // As the image of PostgreSQL has it, before our script adds to it.
    hba: 'host all all all scram-sha-256',
  })
  await initialise(server)
  await using store = await startStore()
  const { command, env } = await settings(server, store.env)

  await using receiver = new Container(image, command('walrx'), env('walrx'))
  const check = async () => {
    await using checked = new Container(image, image.config.healthCheck?.command ?? [], env('walrx'))
    return (await checked.ended).status
  }
  await until('the receiver to be healthy', async () => {
    if (receiver.child.exitCode !== null) assert.fail((await receiver.ended).stderr)
    return (await check()) === 0
  })

  for (const count of [1, 2]) {
    await using backup = new Container(image, command('backup'), env('backup'))
    const { status, stderr } = await backup.ended
    assert.equal(status, 0, stderr)
    await using list = new Container(image, [...image.config.entrypoint, 'backup-list', '--json'], env('walrx'))
    const listed = await list.ended
    assert.equal((JSON.parse(listed.stdout) as unknown[]).length, count, listed.stderr)
  }

  await using verify = new Container(image, [...image.config.entrypoint, 'backup-verify', 'LATEST'], env('walrx'))
  const verified = await verify.ended
  assert.equal(verified.status, 0, verified.stderr)

  const graceMs = parseDurationMs(service('walrx').stop_grace_period ?? '') ?? 0
  const { status, stderr } = await receiver.stop(graceMs)
  assert.equal(status, 0, stderr)
  assert.doesNotMatch(stderr, /"level":"error"/)
})

/** Runs the scripts for a new server; the psql that they find only notes its arguments, and the test runs the SQL. */
async function initialise(server: TestPostgres): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'walrx-psql-'))
  try {
    const note = join(directory, 'arguments')
    await writeFile(join(directory, 'psql'), `#!/bin/sh\nprintf '%s\\0' "$@" >>'${note}'\n`)
    await chmod(join(directory, 'psql'), 0o755)
    for (const script of await readdir(join(composeFolder, 'postgres'))) {
      await run(join(composeFolder, 'postgres', script), [], {
        env: {
          PATH: [directory, '/usr/bin', '/bin'].join(delimiter),
          POSTGRES_USER: 'postgres',
          PGDATA: server.dataDir,
        },
      })
    }
    const noted = (await readFile(note, 'utf8')).split('\0')
    const statements = noted.filter((_, index) => noted[index - 1] === '--command')
    assert.notEqual(statements.length, 0)
    for (const statement of statements) await server.sql(statement)
    await server.reload()
  } finally {
    await rm(directory, { recursive: true })
  }
}

/** Commands and variables of the services, with this machine's hosts and ports. */
async function settings(server: TestPostgres, storeEnv: Readonly<Record<string, string>>) {
  const status = (image.env['WALRX_STATUS_LISTEN'] ?? '').replace(/^.*:/, '127.0.0.1:')
  const here = {
    PGHOST: '127.0.0.1',
    PGPORT: String(server.port),
    WALRX_STATUS_LISTEN: status.replace(/\d+$/, String(await freePort())),
    ...storeEnv,
  }
  return {
    command: (name: string) => [...image.config.entrypoint, ...walrxArguments(service(name))],
    env: (name: string) => ({ ...service(name).environment, ...here }),
  }
}
