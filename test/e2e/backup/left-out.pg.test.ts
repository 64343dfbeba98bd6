/** Configuration and data that symbolic links lead to, which BASE_BACKUP does not follow (wal-g #196, barman #716, #706, pgbackrest #1338). */
import assert from 'node:assert/strict'
import { mkdir, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { isInDepth } from '../../harness/extent.ts'
import { giveToServer, makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { pgMajors, startPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

for (const major of pgMajors) {
  if (!isInDepth(major)) continue
  test(
    `PostgreSQL ${major}: what is left out is named everywhere, and data that is left out ends the backup`,
    { timeout: 200_000 },
    async () => {
      const root = newServerDirectory('left-out')
      await makeServerDirectory(root, 0o755)
      const [archive, elsewhere, data] = ['archive', 'elsewhere', 'data'].map((name) => join(root, name)) as [
        string,
        string,
        string,
      ]
      await mkdir(archive)
      await makeServerDirectory(elsewhere, 0o755)
      await using server = await startPostgres({ major })
      const move = async (path: string) => {
        const target = join(elsewhere, path.replaceAll('/', '-'))
        await rename(join(server.dataDir, path), target)
        await symlink(target, join(server.dataDir, path))
        await giveToServer(join(server.dataDir, path))
      }
      await move('pg_hba.conf')
      await writeFile(join(elsewhere, 'ident.conf'), '')
      await giveToServer(join(elsewhere, 'ident.conf'))
      await server.configure({ settings: { ident_file: join(elsewhere, 'ident.conf') } })
      await server.restart()
      const prefix = ['--file-prefix', archive]
      const push = () => runWalrx(['backup-push', ...prefix, '--dbname', server.conninfo(), '--no-wait', '--json'])

      const pushed = await push()
      assert.equal(pushed.status, 0, pushed.stderr)
      const outside = { ident_file: join(elsewhere, 'ident.conf') }
      const printed = JSON.parse(pushed.stdout) as Record<string, unknown>
      assert.deepEqual([printed.left_out, printed.outside], [['pg_hba.conf'], outside])
      assert.equal(pushed.stderr.match(/skipping special file/g)?.length, 1, pushed.stderr)

      const shown = await runWalrx(['backup-show', 'LATEST', '--json', ...prefix])
      const described = JSON.parse(shown.stdout) as Record<string, unknown>
      assert.deepEqual([described.left_out, described.outside], [['pg_hba.conf'], outside])
      const text = await runWalrx(['backup-show', 'LATEST', ...prefix])
      assert.match(text.stdout, /^not in it +pg_hba\.conf \(a link or a special file\)$/m)
      assert.match(text.stdout, /^not in it +\S+ident\.conf \(ident_file\)$/m)

      for (const dry of [['--dry-run'], []]) {
        const fetched = await runWalrx(['backup-fetch', data, 'LATEST', '--json', ...dry, ...prefix])
        assert.equal(fetched.status, 0, fetched.stderr)
        assert.match(fetched.stderr, /the server left files out of the backup/)
        assert.match(fetched.stderr, /"files":\["pg_hba\.conf"\].*the backup has no such configuration file/)
        if (dry.length > 0) continue
        const result = JSON.parse(fetched.stdout) as Record<string, unknown>
        assert.deepEqual(result.left_out, ['pg_hba.conf'])
        assert.deepEqual(result.configuration_missing, ['pg_hba.conf'])
      }
      assert.ok((await readFile(join(data, 'postgresql.conf'), 'utf8')).length > 0)

      await server.stop()
      await move('base/1')
      await server.start()
      const failed = await push()
      assert.notEqual(failed.status, 0)
      assert.notEqual(failed.status, 1)
      assert.match(failed.stderr, /the server leaves base\/1 out of its backups/)
      const list = await runWalrx(['backup-list', '--json', ...prefix])
      assert.equal((JSON.parse(list.stdout) as unknown[]).length, 1)
      await rm(root, { recursive: true })
    },
  )
}
