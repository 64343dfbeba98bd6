/** What a backup must say to every reader: the whole system identifier, its WAL, and which backup is the newest. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { zstdDecompressSync } from 'node:zlib'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { until } from '../../harness/time/until.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

const timeout = 180_000

/** Makes a process believe in another time of day. */
const skewed = (ms: number) => ({
  NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(`
    const { now } = Date
    const Real = Date
    globalThis.Date = class extends Real { constructor(...a) { a.length ? super(...a) : super(now() + ${ms}) } }
    globalThis.Date.now = () => now() + ${ms}`)}`,
})
const dayMs = 24 * 3600 * 1000

let server: TestPostgres

before(async () => {
  const settings = { checkpoint_timeout: '1h', min_wal_size: '2MB', max_wal_size: '1GB' }
  server = await startPostgres({ major: 17, segmentSizeMb: 1, fresh: true, settings })
})
after(() => server[Symbol.asyncDispose]())

async function newArchive(): Promise<string[]> {
  const root = newServerDirectory('facts')
  await makeServerDirectory(root, 0o755)
  mkdirSync(join(root, 'archive'))
  return ['--file-prefix', join(root, 'archive')]
}

async function push(prefix: readonly string[], flags: readonly string[] = []): Promise<string> {
  const args = ['backup-push', ...prefix, '--dbname', server.conninfo(), '--json', ...flags]
  const { status, stderr, stdout } = await runWalrx(args)
  assert.equal(status, 0, stderr)
  return (JSON.parse(stdout) as { readonly backup_name: string }).backup_name
}

/** The names of all backups, as they are listed. */
async function listed(prefix: readonly string[]): Promise<string[]> {
  const { status, stderr, stdout } = await runWalrx(['backup-list', ...prefix, '--json'])
  assert.equal(status, 0, stderr)
  return (JSON.parse(stdout) as readonly { readonly backup_name: string }[]).map((each) => each.backup_name)
}

function receive(prefix: readonly string[], slot: string) {
  return startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo(), '--slotname', slot])
}

test(
  'the system identifier is shown to its last digit in everything that belongs to a backup',
  { timeout },
  async () => {
    const prefix = await newArchive()
    const id = String(server.systemId)
    assert.notEqual(String(Number(id)), id, 'no number of JavaScript can hold it')
    await using receiver = receive(prefix, 'facts')
    await receiver.logged('streaming')
    const name = await push(prefix)
    const folder = join(prefix[1] ?? '', 'basebackups_005')
    assert.match(readFileSync(join(folder, `${name}_backup_stop_sentinel.json`), 'utf8'), new RegExp(`:\\s*${id}\\b`))
    assert.match(readFileSync(join(folder, name, 'metadata.json'), 'utf8'), new RegExp(`:\\s*${id}\\b`))
    const manifest = zstdDecompressSync(readFileSync(join(folder, name, 'backup_manifest.zst'))).toString()
    assert.match(manifest, new RegExp(`"System-Identifier": ${id}\\b`))
    // The server's own sum of the text before it: not one byte is another.
    const [, text = '', sum] = /^(.*)"Manifest-Checksum": "([0-9a-f]{64})"/s.exec(manifest) ?? []
    assert.equal(createHash('sha256').update(text).digest('hex'), sum)
    const detail = await runWalrx(['backup-list', ...prefix, '--detail', '--json'])
    assert.match(detail.stdout, new RegExp(`:\\s*${id}\\b`))
    assert.equal((await receiver.stop()).status, 0)
  },
)

test('a backup is none to recover from if its WAL was gone before a receiver came', { timeout }, async () => {
  const prefix = await newArchive()
  const nowhere = join(prefix[1] ?? '', '..', 'nowhere')
  const fetch = (name: string) => runWalrx(['backup-fetch', nowhere, name, '--recover', '--dry-run', ...prefix])
  await server.sql('select pg_drop_replication_slot(slot_name) from pg_replication_slots')
  const early = await push(prefix, ['--no-wait'])
  const waited = await runWalrx(['backup-push', ...prefix, '--dbname', server.conninfo(), '--wal-timeout=1s'])
  assert.equal(waited.status, 5, waited.stderr)
  const [, unfinished = ''] = /walrx backup-finish (base_[0-9A-F]{24})/.exec(waited.stderr) ?? []
  assert.notEqual(unfinished, '', waited.stderr)

  await generateWal(server, { segments: 4 })
  await server.checkpoint()
  await until('the removal of WAL', async () => {
    const names = [early, unfinished].map((name) => `'${name.slice('base_'.length)}'`).join(', ')
    return (await server.sql(`select from pg_ls_waldir() where name in (${names})`)).length === 0
  })
  await using receiver = receive(prefix, 'late')
  await receiver.logged('streaming')
  const finished = await runWalrx(['backup-finish', unfinished, ...prefix, '--wal-timeout=1s'])
  assert.equal(finished.status, 5, finished.stderr)
  assert.deepEqual(await listed(prefix), [early])
  for (const name of [early, 'LATEST']) {
    const fetched = await fetch(name)
    assert.equal(fetched.status, 2, fetched.stderr)
    assert.match(
      fetched.stderr,
      new RegExp(`starts in segment ${early.slice('base_'.length)}, which the archive lacks`),
    )
  }
  const late = await push(prefix)
  assert.deepEqual(await listed(prefix), [early, late])
  assert.equal((await fetch('LATEST')).status, 0)
  assert.equal((await receiver.stop()).status, 0)
})

test('backups of machines with clocks that differ by days stay in order', { timeout }, async () => {
  const prefix = await newArchive()
  await using receiver = receive(prefix, 'clocks')
  await receiver.logged('streaming')
  const names: string[] = []
  for (const skewMs of [dayMs, -2 * dayMs, 0]) {
    const args = ['backup-push', ...prefix, '--dbname', server.conninfo(), '--json']
    await using pushing = startWalrx(args, { env: skewed(skewMs) })
    const { status, stderr, stdout } = await pushing.ended
    assert.equal(status, 0, stderr)
    const offMs = Date.parse(String(pushing.lines[0]?.['time'])) - Date.now() - skewMs
    assert.ok(Math.abs(offMs) < dayMs / 4, 'its clock was not the one that it was given')
    names.push((JSON.parse(stdout) as { readonly backup_name: string }).backup_name)
  }
  assert.deepEqual(await listed(prefix), names)
  const shown = await runWalrx(['backup-show', 'LATEST', ...prefix, '--json'])
  assert.equal((JSON.parse(shown.stdout) as { readonly name: string }).name, names.at(-1))
  const fetched = await runWalrx(['backup-fetch', `${prefix[1]}-restored`, 'LATEST', '--dry-run', ...prefix])
  assert.match(fetched.stdout, new RegExp(`${names.at(-1)} can be restored`))
  assert.equal((await receiver.stop()).status, 0)
})
