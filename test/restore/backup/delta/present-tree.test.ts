/** Mounts in a data directory, in a mount namespace of their own. Needs root, or the right to make such a namespace. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const canMount = spawnSync('unshare', ['-m', 'true']).status === 0
const source = fileURLToPath(new URL('../../../../src/restore/backup/delta/present-tree.ts', import.meta.url))

/** Lists a data directory with these mounts, and says what it is refused with; '' for nothing. */
function refusal(root: string, mounts: readonly (readonly [what: string, at: string])[]): string {
  const code = `
    import { readTree } from ${JSON.stringify(source)}
    const options = { destination: ${JSON.stringify(join(root, 'data'))}, major: 17, leftOut: new Set(), walDirectory: undefined,
      linked: new Map([[16384, ${JSON.stringify(join(root, 'place'))}]]), directories: new Map([['base', 448], ['pg_wal', 448]]) }
    await readTree(options).then(() => {}, ({ message, hint }) => process.stdout.write(message + '; ' + hint))`
  const binds = mounts.map(([what, at]) => `mount --bind '${join(root, what)}' '${join(root, at)}'`)
  const script = [...binds, 'exec "$0" --input-type=module -e "$1"'].join(' && ')
  const end = spawnSync('unshare', ['-m', 'sh', '-c', script, process.execPath, code], { encoding: 'utf8' })
  assert.equal(end.status, 0, end.stderr)
  return end.stdout
}

test('mounts in what is cleared, also of the same file system and of a file', { skip: !canMount }, async () => {
  const root = await mkdtemp(join(tmpdir(), 'walrx-mounts-'))
  try {
    const folders = ['data/base/5', 'data/pg_wal/archive_status', 'data/pg_tblspc', 'place/PG_17_1/5', 'other']
    for (const folder of folders) await mkdir(join(root, folder), { recursive: true })
    await symlink(join(root, 'place'), join(root, 'data/pg_tblspc/16384'))
    for (const file of ['data/postgresql.conf', 'other/file']) await writeFile(join(root, file), '')
    const free = ['data', 'data/pg_wal', 'place']
    for (const at of free) assert.equal(refusal(root, [[at, at]]), '', at)
    const cleared = ['data/base', 'data/base/5', 'data/pg_wal/archive_status', 'place/PG_17_1', 'place/PG_17_1/5']
    for (const at of cleared) {
      const text = `${root}/${at} is a mount in what a restore over ${root}/data clears; `
      assert.ok(refusal(root, [['other', at]]).startsWith(text), at)
    }
    const file = refusal(root, [['other/file', 'data/postgresql.conf']])
    assert.match(file, /data\/postgresql.conf is a mount .*: umount \S+data\/postgresql.conf$/)
  } finally {
    await rm(root, { recursive: true })
  }
})
