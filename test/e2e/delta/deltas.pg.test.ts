/**
 * Chains of a full backup and five deltas, restored by walrx and by WAL-G: against what pg_combinebackup makes of the same
 * bytes of the server's, and recovered, against a recovery from the full backup alone.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { describe, test } from 'node:test'
import type { PushedBackup } from '../../../src/backup/backup-push.ts'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { isFullRun, isInDepth } from '../../harness/extent.ts'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { majorSkip, nextMajor, startPostgres } from '../../harness/postgres/postgres.ts'
import { startRecovering } from '../../harness/postgres/restored-server.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { archivedAll, RecordedChain, type Restored } from './delta-chain.ts'
import { assertManifestFits } from './restored-manifest.ts'
import { assertIndexesAnswer, DeltaLoad, makeRelations } from './delta-load.ts'
import { assertRecovered, assertSound, contentsOf, momentOf } from './delta-proofs.ts'

const run = promisify(execFile)
const walg = process.env['WALG_BIN']

/** Each builds on the one before. */
function assertChained([full, ...deltas]: readonly PushedBackup[]): void {
  assert.equal(full?.sentinel.delta, undefined)
  assert.equal(full?.full?.code, 'no-backup')
  let parent = full
  for (const [index, delta] of deltas.entries()) {
    assert.equal(delta.full, undefined)
    assert.equal(delta.name, `${delta.name.slice(0, 29)}_D_${parent?.name.slice(5, 29)}`)
    assert.deepEqual(delta.sentinel.delta, {
      parentName: parent?.name,
      parentLsn: parent?.sentinel.startLsn,
      fullName: full?.name,
      count: index + 1,
      incrementFormat: undefined,
    })
    assert.ok(delta.sentinel.uncompressedSize < (full?.sentinel.uncompressedSize ?? 0) * 0.8)
    parent = delta
  }
}

/** The tablespace's folder holds what it did, as WAL-G restores it: see its --restore-spec. */
async function fetchByWalg(program: string, chain: RecordedChain, oid: string) {
  const directory = newServerDirectory('deltas-walg')
  await makeServerDirectory(directory, 0o755)
  const [data, tablespace] = [join(directory, 'data'), join(directory, 'ts')]
  const spec = { base_prefix: data, tablespaces: [oid], [oid]: { loc: tablespace, link: `pg_tblspc/${oid}` } }
  await writeFile(join(directory, 'spec.json'), JSON.stringify(spec))
  await run(program, ['backup-fetch', data, 'LATEST', '--restore-spec', join(directory, 'spec.json')], {
    env: { ...process.env, WALG_FILE_PREFIX: chain.archive },
  })
  return { directory, data, tablespace }
}

/** Deltas of a chain; each step of the load changes relations in other ways. */
const count = isFullRun ? 5 : 3

for (const major of [17, 18, nextMajor] as const) {
  if (!isInDepth(major)) continue
  describe(`PostgreSQL ${major}`, { skip: majorSkip(major) }, () => {
    test(`a full backup and ${count} deltas`, { timeout: 900_000 }, async (t) => {
      const combine = await clientTool('pg_combinebackup', major)
      if (combine === undefined) t.diagnostic(`no pg_combinebackup of PostgreSQL ${major}: its rule is used alone`)
      const chain = await RecordedChain.open(`deltas${major}`)
      await using server = await startPostgres({
        major,
        dataChecksums: true,
        settings: { summarize_wal: 'on', autovacuum: 'off' },
      })
      await server.sql(`create tablespace ts location '${chain.place}'`)
      await using receiver = startWalrx(['wal-receive', ...chain.prefix, '--dbname', server.conninfo()])
      await receiver.logged('streaming')
      await makeRelations(server, 'ts')
      const load = await DeltaLoad.start(server, 'ts')
      for (let step = 0; step <= count; step++) {
        if (step > 0) await load.change(step)
        await chain.push(server)
      }
      assertChained(chain.backups)
      // A moment after the last backup, and something after that.
      await load.quiet()
      const moment = await momentOf(server)
      await server.sql('delete from updated; drop table untouched')
      const atTheEnd = await contentsOf(server)
      await load.stop()
      await archivedAll(server, receiver)
      await receiver.stop()
      await server.stop('immediate')
      const [full, last] = [chain.backups[0]?.name ?? '', chain.backups.at(-1)?.name ?? '']

      const oid = String(chain.backups.at(-1)?.sentinel.spec?.tablespaces[0]?.oid)
      const byWalg = walg === undefined ? undefined : await fetchByWalg(walg, chain, oid)

      await t.test('verify', () => chain.verify(isFullRun ? 'every' : 'last'))

      await t.test('restore to what pg_combinebackup makes', async (t) => {
        for (const index of isFullRun ? [1, 2, 3, 4, 5] : [count]) {
          const others = index === count && byWalg ? [byWalg] : []
          const checkManifest = (fetched: Restored) => assertManifestFits(fetched.data, major)
          const same = await chain.assertCombines(combine, index, others, checkManifest)
          t.diagnostic(`${same} files of delta ${index} are the same`)
        }
      })

      await t.test('recover as the full backup alone does, to the same position', async (t) => {
        await using fromFull = await chain.recover(full, moment.lsn, server)
        await using fromChain = await chain.recover(last, moment.lsn, server)
        await assertRecovered(fromChain, fromFull, moment)
        await assertIndexesAnswer(fromChain)
        const checked = await assertSound(fromChain)
        t.diagnostic(`${checked} relations are sound`)
        assert.ok(checked > 500)
        const [unlogged] = await fromChain.sql<{ rows: number }>('select count(*)::int as rows from always_unlogged')
        assert.equal(unlogged?.rows, 0)
      })

      await t.test('recover from what WAL-G restores', { skip: !byWalg && 'WALG_BIN names no WAL-G' }, async () => {
        if (!byWalg) return
        const { data, directory, tablespace } = byWalg
        await using restored = await startRecovering(directory, major, chain.prefix, [tablespace])
        assert.deepEqual(await contentsOf(restored), atTheEnd)
        assert.ok(!(await readdir(data)).some((name) => name.startsWith('INCREMENTAL')))
      })
    })
  })
}
