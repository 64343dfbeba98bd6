/** What `walrx copy` refuses before it writes anything. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Random } from '../harness/random.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'
import { makeArchive } from '../retention/made-archive.ts'
import { keysIn, writeDirectory } from '../retention/made-directory.ts'

test('a copy to its own place is refused with status 2, and both places are named', async () => {
  const top = mkdtempSync(join(tmpdir(), 'walrx-copy-'))
  try {
    const root = join(top, 'db1')
    mkdirSync(root)
    writeDirectory(makeArchive(new Random(7), { events: 5, isSimple: true }).storage, root)
    symlinkSync('db1', join(top, 'link'))
    const before = keysIn(top)
    for (const to of [join(top, 'link'), `${root}/`, join(root, 'wal_005'), top]) {
      const { status, stderr } = await runWalrx(['copy', '--to', to], { env: { WALG_FILE_PREFIX: root } })
      assert.equal(status, 2, stderr)
      assert.ok(stderr.includes(root) && stderr.includes(to.replace(/\/$/, '')), stderr)
    }
    assert.deepEqual(keysIn(top), before)
  } finally {
    rmSync(top, { recursive: true })
  }
})
