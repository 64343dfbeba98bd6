/** What a restore may not change, as a user who is not root. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const source = fileURLToPath(new URL('../../../../src/restore/backup/delta/writable-directories.ts', import.meta.url))
const user = 12_345

test(
  'directories that are closed, and modes of what belongs to others',
  { skip: process.geteuid?.() !== 0 },
  async () => {
    const root = await mkdtemp(join(tmpdir(), 'walrx-writable-'))
    const data = join(root, 'data')
    const refusal = (changed: string[], moded: string[], outside: string[]): string => {
      const code = `
      import { refuseUnwritable } from ${JSON.stringify(source)}
      const directories = ['base', 'base/5', 'closed', 'theirs']
      const isDirectory = (path) => directories.includes(path)
      const places = { destination: ${JSON.stringify(data)}, ...${JSON.stringify({ changed, moded, outside })}, isDirectory }
      await refuseUnwritable(places).then(() => {}, ({ message }) => process.stdout.write(message))`
      const end = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
        uid: user,
        gid: user,
        encoding: 'utf8',
      })
      assert.equal(end.status, 0, end.stderr)
      return end.stdout
    }
    try {
      await chmod(root, 0o755)
      for (const folder of ['', 'base/5', 'closed', 'theirs']) await mkdir(join(data, folder), { recursive: true })
      for (const path of ['', 'base', 'base/5', 'closed']) await chown(join(data, path), user, user)
      await writeFile(join(data, 'base/PG_VERSION'), '')
      await chmod(join(data, 'closed'), 0o500)
      await chmod(join(data, 'theirs'), 0o777)
      assert.equal(
        refusal(['a', 'base/5/1', 'base/6/1', 'theirs/a'], ['', 'base', 'base/6'], [join(data, 'base/x/y')]),
        '',
      )
      for (const changed of ['closed/a', 'closed/new/a']) {
        assert.match(
          refusal([changed], [], []),
          /^\S+\/closed cannot be changed: it belongs to user 12345, with mode 500,/,
        )
      }
      for (const moded of ['theirs', 'base/PG_VERSION']) {
        assert.match(
          refusal([], [moded], []),
          new RegExp(`/${moded} cannot be changed: it belongs to user 0, with mode .* owner`),
        )
      }
      assert.match(
        refusal([], [], [join(root, 'place/new')]),
        /^\S+ cannot be changed: it belongs to user 0, with mode 755,/,
      )
    } finally {
      await rm(root, { recursive: true })
    }
  },
)
