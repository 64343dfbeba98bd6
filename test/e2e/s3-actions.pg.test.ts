/**
 * The rights that each command needs in S3: every command runs with just the actions of the table in docs/operations.md,
 * and with one less it ends as the table says, with a line that names the action (aws-cli #1689, pgbackrest #669).
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { commandTable } from '../../src/config/commands.ts'
import { tailKey } from '../../src/walg/names.ts'
import { makeDiverged } from '../harness/made/diverged-directories.ts'
import { startPostgres, type TestPostgres } from '../harness/postgres/postgres.ts'
import { type FaultyS3, startFaultyS3 } from '../harness/store/faulty-s3/faulty-s3.ts'
import { requestsOfAction, type S3Action } from '../harness/store/faulty-s3/s3-request.ts'
import { type ProcessEnd, runWalrx } from '../harness/walrx/walrx-process.ts'

type Need = 'yes' | 'useful' | 'no'

/** The table: by command, what it needs of each action. */
async function readTable(): Promise<Map<string, Map<string, Need>>> {
  const page = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8')
  const rows = page
    .slice(page.indexOf('### In S3'), page.indexOf('### In a directory'))
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) => line.split('|').slice(1, -1))
  const words = (cell = '') => [...cell.matchAll(/`([^`]+)`/g)].map(([, word = '']) => word)
  const actions = rows[0]!.slice(1).flatMap((cell) => words(cell))
  const table = new Map<string, Map<string, Need>>()
  for (const [names, ...needs] of rows.slice(2)) {
    const row = new Map(needs.map((need, index) => [actions[index]!, need.trim() as Need]))
    for (const name of words(names)) table.set(name, row)
  }
  return table
}

let server: TestPostgres
let store: FaultyS3
const allowed = new Set<S3Action>()
let root: string
let table: Map<string, Map<string, Need>>
let runs = 0

const allow = (actions: Iterable<string>) => {
  allowed.clear()
  for (const action of actions) for (const request of requestsOfAction[action] ?? []) allowed.add(request)
}
const allowAll = () => allow(Object.keys(requestsOfAction))
const needed = (command: string, ...needs: Need[]) =>
  [...(table.get(command) ?? [])].filter(([, need]) => needs.includes(need)).map(([action]) => action)

const walrx = (...args: string[]) =>
  runWalrx(args, {
    cwd: root,
    env: {
      WALG_S3_PREFIX: `s3://${store.bucket}/db1`,
      AWS_ENDPOINT: store.endpoint,
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_REGION: store.region,
      AWS_ACCESS_KEY_ID: store.accessKeyId,
      AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
      WALRX_FETCH_RETRY_TIMEOUT: '300ms',
      HOME: root,
    },
  })

before(async () => {
  table = await readTable()
  root = await mkdtemp(join(tmpdir(), 'walrx-actions-'))
  await writeFile(join(root, 'note'), 'a note')
  store = await startFaultyS3({ allowed })
  server = await startPostgres({ major: 17, segmentSizeMb: 1, dataChecksums: true })
  allowAll()
  const pushed = await walrx('backup-push', '--no-wait', '--dbname', server.conninfo())
  assert.equal(pushed.status, 0, pushed.stderr)
  const received = await receive()
  assert.equal(received.status, 0, received.stderr)
})
after(async () => {
  await server[Symbol.asyncDispose]()
  await store[Symbol.asyncDispose]()
  await rm(root, { recursive: true })
})

async function receive(): Promise<ProcessEnd> {
  const [end] = await server.sql<{ lsn: string }>('select pg_switch_wal()::text as lsn')
  await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
  return await walrx('wal-receive', '--dbname', server.conninfo(), '--slotname', 'actions', '--endpos', end?.lsn ?? '')
}

const segments = () =>
  [...store.store.objects.keys()].flatMap((key) => /^db1\/wal_005\/([0-9A-F]{24})\.zst$/.exec(key)?.[1] ?? []).sort()

/** What a call needs beforehand is made with all rights. */
async function withAllRights<T>(prepare: () => Promise<T>): Promise<T> {
  const granted = [...allowed]
  allowAll()
  const made = await prepare()
  allowed.clear()
  for (const action of granted) allowed.add(action)
  return made
}

/** Makes a tail of the last archived segment. */
async function makeTail(): Promise<void> {
  const segment = segments().at(-1) ?? ''
  const fetched = await walrx('wal-fetch', segment, 'tail')
  assert.equal(fetched.status, 0, fetched.stderr)
  const body = (await readFile(join(root, 'tail'))).subarray(0, 65536)
  store.store.objects.delete(`db1/wal_005/${segment}.zst`)
  const key = `db1/${tailKey(segment, { from: 0, to: body.length }, '')}`
  store.store.objects.set(key, { body, etag: '"1"', modifiedMs: Date.now() })
}

/** Leaves a backup without its sentinel, and with its WAL in the archive. */
async function leaveUnfinished(): Promise<string> {
  await server.checkpoint()
  const pushed = await walrx('backup-push', '--wal-timeout=1s', '--dbname', server.conninfo())
  const name = /walrx backup-finish (base_\w+)/.exec(pushed.stderr)?.[1] ?? ''
  assert.notEqual(name, '', pushed.stderr)
  assert.equal((await receive()).status, 0)
  return name
}

let isMarked = false
let unfinished: string | undefined

/** One call of each command that does all that it can do. */
const calls: Readonly<Record<string, () => Promise<ProcessEnd>>> = {
  'wal-receive': receive,
  'wal-fetch': () => walrx('wal-fetch', segments()[0] ?? '', `segment-${runs++}`),
  // Another segment each time, because one that is there need not be written.
  'wal-push': async () => {
    const [row] = await server.sql<{ name: string }>(
      `select pg_walfile_name(pg_logical_emit_message(false, 'walrx', 'one more')) as name`,
    )
    await server.sql('select pg_switch_wal()')
    return await walrx('wal-push', join(server.pgWal(), row?.name ?? ''))
  },
  'daemon-client': async () => {
    const path = join(root, 'daemon')
    const daemon = createServer((socket) => socket.once('data', () => socket.end('O'))).listen(path)
    await once(daemon, 'listening')
    const ended = await walrx('daemon-client', path, 'wal-push', segments()[0] ?? '')
    await new Promise((closed) => daemon.close(closed))
    return ended
  },
  'wal-show': () => walrx('wal-show'),
  'wal-verify': () => walrx('wal-verify'),
  'wal-restore': async () => {
    // A wal-push that was refused has left a hole, and it must not lie between the last checkpoint and the fork.
    await withAllRights(async () => {
      await server.checkpoint()
      assert.equal((await receive()).status, 0)
    })
    const directories = { target: join(root, `target-${++runs}`), source: join(root, `source-${runs}`) }
    const last = segments().at(-1) ?? ''
    const fork = `0/${(parseInt(last.slice(16), 16) + 1).toString(16)}00000`
    await makeDiverged(join(server.dataDir, 'global', 'pg_control'), fork, directories)
    return await walrx('wal-restore', directories.target, directories.source)
  },
  info: () => walrx('info'),
  // What it shows has what is wrong with the archive.
  status: async () => {
    const end = await walrx('status')
    return { ...end, stderr: end.stderr + end.stdout }
  },
  'wal-finalize': async () => {
    await withAllRights(makeTail)
    return await walrx('wal-finalize', '--force')
  },
  'backup-push': () => walrx('backup-push', '--no-wait', '--dbname', server.conninfo()),
  // For a full backup it reads nothing.
  'backup-plan': () => walrx('backup-plan', '--delta-max-steps=7', '--dbname', server.conninfo()),
  'backup-finish': async () => {
    unfinished ??= await withAllRights(leaveUnfinished)
    const ended = await walrx('backup-finish', unfinished)
    if (ended.status === 0) unfinished = undefined
    return ended
  },
  'backup-mark': async () => {
    const ended = await walrx('backup-mark', 'LATEST', ...(isMarked ? ['--impermanent'] : []))
    if (ended.status === 0) isMarked = !isMarked
    return ended
  },
  // A backup of its own for each call.
  delete: async () => {
    await withAllRights(async () => {
      assert.equal((await walrx('backup-push', '--no-wait', '--full', '--dbname', server.conninfo())).status, 0)
    })
    return await walrx('delete', 'target', 'LATEST', '--confirm')
  },
  'backup-fetch': () => walrx('backup-fetch', join(root, `data-${runs++}`), 'LATEST'),
  'backup-verify': () => walrx('backup-verify', 'LATEST'),
  // Without the flag the listing is enough.
  'backup-list': () => walrx('backup-list', '--detail'),
  'backup-show': () => walrx('backup-show', 'LATEST'),
  copy: () => walrx('copy', '--to', `s3://${store.bucket}/copy-${runs++}`),
  st: async () => {
    const path = `notes/${runs++}`
    const verbs = [
      ['put', join(root, 'note'), path, '--no-compress'],
      ['ls', '-r', 'notes'],
      ['cat', path],
      ['rm', path],
    ]
    for (const verb of verbs) {
      const ended = await walrx('st', ...verb)
      if (ended.status !== 0) return ended
    }
    return walrx('st', 'check', 'read')
  },
  // Its findings are its output.
  check: async () => {
    const ended = await walrx('check', '--dbname', server.conninfo())
    return { ...ended, stderr: ended.stderr + ended.stdout }
  },
  'restore-command': () => walrx('restore-command'),
  scrub: () => walrx('scrub', '--dbname', server.conninfo()),
  config: () => walrx('config'),
  completion: () => walrx('completion', 'bash'),
}

/** The first is started by wal-fetch; the others do what commands that are run here do. */
const others = ['wal-prefetch', 'daemon', 'serve']

test('the table has every command, and each but three is run here', () => {
  const commands = Object.keys(commandTable).sort()
  assert.deepEqual([...table.keys()].sort(), commands)
  assert.deepEqual([...Object.keys(calls), ...others].sort(), commands)
})

describe('with just the actions of the table', () => {
  for (const [command, call] of Object.entries(calls)) {
    test(`${command} does its work, and with one less it says which`, { timeout: 300_000 }, async () => {
      const granted = needed(command, 'yes', 'useful')
      for (const lacking of needed(command, 'yes')) {
        allow(granted.filter((action) => action !== lacking))
        const { status, stderr } = await call()
        assert.equal(status, command === 'wal-fetch' ? 126 : 4, `${command} without ${lacking}: ${stderr}`)
        assert.match(stderr, new RegExp(`the access key lacks s3:${lacking}\\b`), `${command} without ${lacking}`)
      }
      for (const lacking of needed(command, 'useful')) {
        allow(granted.filter((action) => action !== lacking))
        const { status, stderr } = await call()
        assert.equal(status, 0, `${command} without ${lacking}: ${stderr}`)
      }
      allow(granted)
      const { status, stderr } = await call()
      assert.equal(status, 0, `${command}: ${stderr}`)
    })
  }

  test('wal-fetch says 74 of what is missing, and never without ListBucket', async () => {
    allow(needed('wal-fetch', 'yes'))
    for (const name of ['00000007.history', '00000001000000FF00000001']) {
      assert.equal((await walrx('wal-fetch', name, 'none')).status, 74)
    }
    allow(['GetObject'])
    for (const name of ['00000007.history', '00000001000000FF00000001']) {
      const { status, stderr } = await walrx('wal-fetch', name, 'none')
      assert.equal(status, 126, stderr)
      assert.match(stderr, /the access key lacks s3:ListBucket/)
    }
  })
})
