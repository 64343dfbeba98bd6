/** A file whose name is not UTF-8: WAL-G's documents cannot hold it. It is refused before anything is stored. */
import assert from 'node:assert/strict'
import { mkdir, readdir, rm, symlink, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeServerDirectory } from '../../harness/postgres/postgres-files.ts'
import { startPostgres } from '../../harness/postgres/postgres.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'

test(
  'a name that is not UTF-8 is refused, before the backup where the role may list files',
  { timeout: 120_000 },
  async () => {
    const root = newServerDirectory('unusable-names')
    await makeServerDirectory(root, 0o755)
    const archive = join(root, 'archive')
    await mkdir(archive)
    await using server = await startPostgres({ major: 17 })
    await server.sql('create role repl login replication')
    const push = (user?: string) =>
      runWalrx(['backup-push', '--file-prefix', archive, '--dbname', server.conninfo(user), '--no-wait'], {
        env: { WALRX_LOG_FORMAT: 'pretty' },
      })
    const folder = join(server.dataDir, 'conf.d')
    await makeServerDirectory(folder, 0o755)
    await writeFile(join(folder, 'a \\ é.conf'), '')
    assert.equal((await push()).status, 0)
    assert.equal((await push('repl')).status, 0)

    // The server sends nothing that a link leads to: neither endless loops nor names there are in the way.
    const elsewhere = join(root, 'elsewhere')
    await makeServerDirectory(elsewhere, 0o755)
    await writeFile(Buffer.concat([Buffer.from(`${elsewhere}/`), Buffer.from([0xe9])]), '')
    await symlink(elsewhere, join(server.dataDir, 'log'))
    for (const name of ['loop', 'loop2']) await symlink('.', join(server.dataDir, name))
    assert.equal((await push()).status, 0)
    for (const name of ['loop', 'loop2']) await unlink(join(server.dataDir, name))
    const before = await readdir(archive, { recursive: true })

    const relation = Buffer.concat([Buffer.from(`${server.dataDir}/base/1/`), Buffer.from([0xff])])
    await writeFile(relation, '')
    const inBase = await push()
    assert.equal(inBase.status, 5, inBase.stderr)
    assert.ok(inBase.stderr.includes(`a name that is not UTF-8: $'base/1/\\xff'`), inBase.stderr)
    assert.doesNotMatch(inBase.stderr, /backup begins/)
    await unlink(relation)

    await writeFile(Buffer.concat([Buffer.from(`${folder}/b\\c'`), Buffer.from([0xe9, 0x0a])]), '')
    for (const user of [undefined, 'repl']) {
      const { status, stderr } = await push(user)
      assert.equal(status, 5, stderr)
      assert.ok(stderr.includes(`a name that is not UTF-8: $'conf.d/b\\x5cc\\x27\\xe9\\x0a'`), stderr)
      assert.equal(stderr.includes('backup begins'), user === 'repl', stderr)
      const left = (await readdir(archive, { recursive: true })).filter((name) => !before.includes(name))
      assert.deepEqual(
        left.filter((name) => /tar_partitions\/|sentinel/.test(name)),
        [],
      )
    }
    await rm(root, { recursive: true })
  },
)
