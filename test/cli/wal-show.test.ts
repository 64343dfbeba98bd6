import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

test('wal-show is a table of timelines, and a line for each gap', async (t) => {
  const archive = await mkdtemp(join(tmpdir(), 'walrx-wal-show-'))
  t.after(() => rm(archive, { recursive: true }))
  await mkdir(join(archive, 'wal_005'))
  const threeHoursAgo = Date.now() / 1000 - 3 * 3600
  for (const segment of [1, 2, 5, 9].map((n) => `00000001000000000000000${n}`).concat('000000020000000000000009')) {
    const path = join(archive, 'wal_005', `${segment}.zst`)
    await writeFile(path, 'not read')
    await utimes(path, threeHoursAgo, threeHoursAgo)
  }
  await writeFile(join(archive, 'wal_005', '00000002.history'), '1\t0/9000000\tno recovery target specified\n')
  const { status, stdout } = await runWalrx(['wal-show', '--file-prefix', archive, '--pg-wal-size', '16'])
  assert.equal(status, 0)
  assert.deepEqual(stdout.split('\n'), [
    ' TLI    parent    forked at    first segment               last segment                segments    missing    status           durable to    written    stored      backups',
    ' 1      -         -            000000010000000000000001    000000010000000000000009    4           5          LOST_SEGMENTS    0/A000000     3 h ago    32 bytes    0',
    ' 2      1         0/9000000    000000020000000000000009    000000020000000000000009    1           0          OK               0/A000000     3 h ago    49 bytes    0',
    'missing 000000010000000000000003 to 000000010000000000000004, 2 segments',
    'missing 000000010000000000000006 to 000000010000000000000008, 3 segments',
    '',
  ])
})
