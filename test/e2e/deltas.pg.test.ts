/** Chains of a full backup and deltas, against what pg_combinebackup makes of the same bytes of the server's. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { appendFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, test } from 'node:test'
import { type PushedBackup, pushBackup } from '../../src/backup/backup-push.ts'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { silentLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { FileStorage } from '../../src/storage/file.ts'
import { WalArchive } from '../../src/walg/wal-archive.ts'
import { clientTool } from '../harness/client-tools.ts'
import { isInDepth } from '../harness/extent.ts'
import { giveToServer, makeServerDirectory } from '../harness/postgres-files.ts'
import { startPostgres } from '../harness/postgres.ts'
import { startRestored } from '../harness/restored-server.ts'
import { newServerDirectory } from '../harness/test-workspace.ts'
import { startLoad } from '../harness/wal-load.ts'
import { runWalrx, startWalrx } from '../harness/walrx-process.ts'
import { change, contentsOf, makeRelations } from './delta-load.ts'
import { RecordedServer } from './recorded-server.ts'

const run = promisify(execFile)
const walg = process.env['WALG_BIN']

/** A delta on the newest backup, or the full one that a chain begins with. */
function push(server: RecordedServer, root: string): Promise<PushedBackup> {
  const codec = openWriteCodec('zstd')
  const storage = new FileStorage({ root, fsync: false })
  return pushBackup({
    server,
    storage,
    archive: new WalArchive(storage, codec),
    codec,
    clock: systemClock,
    log: silentLog,
    signal: new AbortController().signal,
    backup: { label: 'x', checkpoint: 'fast', verifyChecksums: true, manifestChecksums: 'CRC32C' },
    delta: { full: false, maxSteps: 9, origin: 'LATEST', fromName: undefined, fromUserData: undefined },
    partBytesMax: 16 * 1024 * 1024,
    isPermanent: false,
    userData: undefined,
    walTimeoutMs: 60_000,
  })
}

/** Regular files below a directory, links followed, by path. */
async function filesBelow(directory: string): Promise<string[]> {
  const { stdout } = await run('find', ['-L', directory, '-type', 'f', '-printf', '%P\n'], { maxBuffer: 1 << 26 })
  return stdout.split('\n').filter(Boolean).sort()
}

/** Both hold the same files, byte for byte, but for these. */
async function assertSameFiles(left: string, right: string, except: RegExp): Promise<number> {
  const [ours, theirs] = await Promise.all([filesBelow(left), filesBelow(right)])
  const own = ours.filter((path) => !except.test(path))
  assert.deepEqual(
    own,
    theirs.filter((path) => !except.test(path)),
  )
  for (const path of own) {
    const [a, b] = await Promise.all([readFile(join(left, path)), readFile(join(right, path))])
    assert.ok(a.equals(b), `${path}: ${a.length} and ${b.length} bytes`)
  }
  return own.length
}

for (const major of [17, 18] as const) {
  if (!isInDepth(major)) continue
  describe(`PostgreSQL ${major}`, () => {
    test(
      'a full backup and five deltas on it restore to what pg_combinebackup makes',
      { timeout: 300_000 },
      async (t) => {
        const combine = await clientTool('pg_combinebackup', major)
        if (combine === undefined) t.diagnostic(`no pg_combinebackup of PostgreSQL ${major}: it is left out`)
        if (walg === undefined) t.diagnostic('WALG_BIN names no WAL-G: it is left out')
        const root = newServerDirectory(`deltas${major}`)
        await makeServerDirectory(root, 0o755)
        const [archive, place, raw] = ['archive', 'ts', 'raw'].map((name) => join(root, name)) as [
          string,
          string,
          string,
        ]
        for (const path of [archive, place, raw]) await mkdir(path)
        await giveToServer(place)
        await using server = await startPostgres({
          major,
          dataChecksums: true,
          settings: { summarize_wal: 'on', autovacuum: 'off' },
        })
        await server.sql(`create tablespace ts location '${place}'`)
        await makeRelations(server, 'ts')
        const prefix = ['--file-prefix', archive]
        await using receiver = startWalrx(['wal-receive', ...prefix, '--dbname', server.conninfo()])
        await receiver.logged('streaming')
        const load = await startLoad(server)
        const recorded = new RecordedServer(server.conninfo())
        const pushed: PushedBackup[] = []
        for (let step = 0; step <= 5; step++) {
          if (step > 0) await change(server, step, 'ts')
          const pushing = push(recorded, archive)
          // The end of its WAL has to come into the archive.
          const switching = setInterval(() => void server.switchWal().catch(() => {}), 500)
          pushed.push(await pushing.finally(() => clearInterval(switching)))
          await recorded.unpack(join(raw, String(step)))
        }
        await load.stop()
        const [full, ...deltas] = pushed
        assert.equal(full?.sentinel.delta, undefined)
        assert.equal(full?.full?.code, 'no-backup')
        for (const [index, { full: reason, name, sentinel }] of deltas.entries()) {
          assert.equal(reason, undefined)
          const parent = pushed[index]
          assert.equal(name, `${name.slice(0, 29)}_D_${parent?.name.slice(5, 29)}`)
          assert.deepEqual(sentinel.delta, {
            parentName: parent?.name,
            parentLsn: parent?.sentinel.startLsn,
            fullName: full?.name,
            count: index + 1,
            incrementFormat: undefined,
          })
          assert.ok(sentinel.uncompressedSize < (full?.sentinel.uncompressedSize ?? 0) * 0.8)
        }
        const expected = await contentsOf(server)
        const [last] = await server.sql<{ file: string }>('select pg_walfile_name(pg_switch_wal()) as file')
        await receiver.logged(({ file, msg }) => msg === 'archived' && file === last?.file)
        const oid = String(
          (await server.sql<{ oid: number }>(`select oid from pg_tablespace where spcname = 'ts'`))[0]?.oid,
        )
        await receiver.stop()

        const combined = join(root, 'combined')
        if (combine !== undefined) {
          const inputs = pushed.map((_, step) => join(raw, String(step), 'data'))
          const mapping = ['-T', `${join(raw, '5', oid)}=${join(root, 'combined-ts')}`]
          await run(combine, ['--no-sync', '-o', combined, ...mapping, ...inputs])
        }
        if (walg === undefined) return
        const directory = newServerDirectory(`deltas${major}-walg`)
        await makeServerDirectory(directory, 0o755)
        const data = join(directory, 'data')
        const elsewhere = join(directory, 'ts')
        const spec = { base_prefix: data, tablespaces: [oid], [oid]: { loc: elsewhere, link: `pg_tblspc/${oid}` } }
        await writeFile(join(root, 'spec.json'), JSON.stringify(spec))
        await run(walg, ['backup-fetch', data, 'LATEST', '--restore-spec', join(root, 'spec.json')], {
          env: { ...process.env, WALG_FILE_PREFIX: archive },
        })
        if (combine !== undefined) {
          const count = await assertSameFiles(data, combined, /^backup_manifest$/)
          t.diagnostic(`${count} files are the same`)
          assert.ok(count > 1000)
        }
        const restoreCommand = await runWalrx(['restore-command', ...prefix])
        await appendFile(join(data, 'postgresql.auto.conf'), restoreCommand.stdout)
        await writeFile(join(data, 'recovery.signal'), '')
        await using restored = await startRestored(directory, major, [elsewhere])
        assert.deepEqual(await contentsOf(restored), expected)
        assert.ok(!(await readdir(data)).some((name) => name.startsWith('INCREMENTAL')))
        await rm(raw, { recursive: true })
      },
    )
  })
}
