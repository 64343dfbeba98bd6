import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { TarRewriter } from '../../../src/backup/parts/tar-rewriter.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import type { BackupTablespace } from '../../../src/postgres/backup/base-backup-sink.ts'
import { RecordingPlacer, type Wait } from './recording-placer.ts'
import { serverEntries, type ServerFile, serverTar } from './tars.ts'

const main: BackupTablespace = { oid: undefined, location: '', sizeBytes: undefined }
const elsewhere: BackupTablespace = { oid: 16385, location: '/mnt/fast', sizeBytes: undefined }

/** Rewrites an archive up to its end; the placer waits at every call where `wait` says so. */
async function rewrite(tar: Buffer, tablespace = main, wait: Wait = 0): Promise<TarRewriter> {
  const placer = new RecordingPlacer(
    (function* () {
      for (;;) yield wait
    })(),
  )
  const rewriter = new TarRewriter(placer)
  await rewriter.beginArchive(tablespace)
  await rewriter.feed(tar)
  rewriter.end()
  return rewriter
}

/** It is refused as the server's fault, whether the target is quick or slow. */
async function assertRefused(files: readonly ServerFile[], message: string, tablespace = main): Promise<void> {
  for (const wait of [0, 1, 2] as const) {
    await assert.rejects(
      async () => rewrite(serverTar(files), tablespace, wait),
      (error) => hasCode(error, 'WALRX_PROTOCOL') && error.message === message,
    )
  }
}

const some: readonly ServerFile[] = [
  { name: 'base', kind: 'directory' },
  { name: 'base/1', kind: 'file', content: Buffer.alloc(1000, 1) },
  { name: 'backup_label', kind: 'file', content: Buffer.alloc(100, 2) },
  { name: 'base/2', kind: 'file', content: Buffer.alloc(512, 3) },
]

describe('a rewriter refuses', () => {
  test('an archive that ends anywhere but between two entries', async () => {
    const tar = serverTar(some)
    const borders = new Set([0, 512, 512 + 512 + 1024, 512 + 512 + 1024 + 1024])
    for (let at = serverEntries(some).length; at <= tar.length; at += 512) borders.add(at)
    for (let length = 0; length < tar.length; length += length % 512 === 0 || length % 512 === 511 ? 1 : 73) {
      const cut = tar.subarray(0, length)
      if (borders.has(length)) await rewrite(cut)
      else await assert.rejects(rewrite(cut), (error) => hasCode(error, 'WALRX_PROTOCOL'), `${length} bytes`)
    }
    // The last of the entries, which no zeros follow.
    await rewrite(serverEntries(some))
  })

  test('an archive that ends within a file, by the name of the file, also when the next one begins', async () => {
    const cut = serverEntries(some).subarray(0, 512 + 512 + 700)
    await assert.rejects(rewrite(cut), { message: 'the server ended an archive within base/1' })
    const padding = serverEntries(some).subarray(0, 512 + 512 + 1000)
    await assert.rejects(rewrite(padding), { message: 'the server ended an archive within base/1' })
    await assert.rejects(rewrite(cut.subarray(0, 300)), {
      message: 'the server ended an archive within its first header',
    })
    const rewriter = new TarRewriter(new RecordingPlacer())
    await rewriter.beginArchive(elsewhere)
    await rewriter.feed(cut)
    assert.throws(() => rewriter.beginArchive(main), { message: 'the server ended an archive within base/1' })
  })

  test('an archive that ends within a header, even after another archive, and does not blame the file before', async () => {
    const rewriter = new TarRewriter(new RecordingPlacer())
    await rewriter.beginArchive(elsewhere)
    await rewriter.feed(serverTar(some))
    await rewriter.beginArchive(main)
    await rewriter.feed(serverTar(some).subarray(0, 100))
    assert.throws(() => rewriter.end(), { message: 'the server ended an archive within its first header' })
    const second = new TarRewriter(new RecordingPlacer())
    await second.beginArchive(main)
    await second.feed(serverEntries(some).subarray(0, 512 + 100))
    assert.throws(() => second.end(), { message: 'the server ended an archive within the header after base' })
  })

  test('a file that comes twice, also one that is set aside', async () => {
    const twice = (name: string): ServerFile[] => [
      { name, kind: 'file', content: Buffer.from('one') },
      { name: `./${name}`, kind: 'file', content: Buffer.from('two') },
    ]
    await assertRefused(twice('base/1'), 'the server sent /base/1 twice')
    await assertRefused(twice('base/1'), 'the server sent /pg_tblspc/16385/base/1 twice', elsewhere)
    await assertRefused(twice('global/pg_control'), 'the server sent /global/pg_control twice')
    await assertRefused(twice('backup_label'), 'the server sent backup_label twice')
  })

  test('a file that two archives have by the same path', async () => {
    const placer = new RecordingPlacer()
    const rewriter = new TarRewriter(placer)
    await rewriter.beginArchive(elsewhere)
    await rewriter.feed(serverTar([{ name: 'PG_17/1', kind: 'file' }]))
    await rewriter.beginArchive(main)
    const again = serverTar([{ name: 'pg_tblspc/16385/PG_17/1', kind: 'file' }])
    await assert.rejects(async () => rewriter.feed(again), {
      message: 'the server sent /pg_tblspc/16385/PG_17/1 twice',
    })
  })

  test('names that lead out of the data directory, or are none', async () => {
    for (const name of ['../x', '..', 'base/../../x', 'base/..', './../x', '/etc/passwd', '//x', '', './']) {
      for (const tablespace of [main, elsewhere]) {
        await assertRefused([{ name, kind: 'file' }], `the server sent a file named "${name}"`, tablespace)
      }
    }
    await assertRefused([{ name: '..', kind: 'directory' }], 'the server sent a file named "../"')
    const { files } = await rewrite(serverTar(['..x', 'x..', '...', 'a/..b/c'].map((name) => ({ name, kind: 'file' }))))
    assert.deepEqual([...files.keys()], ['/..x', '/x..', '/...', '/a/..b/c'])
  })

  test('symbolic links but those of tablespaces, which it leaves out', async () => {
    const link = (name: string): ServerFile => ({ name, kind: 'symlink', linkTarget: '/mnt/fast' })
    const { files, aside } = await rewrite(serverTar([link('pg_tblspc/16385'), link('./pg_tblspc/4294967295')]))
    assert.deepEqual([files.size, aside.size], [0, 0])
    for (const name of ['pg_wal', 'base/5', 'pg_tblspc', 'pg_tblspc/x', 'pg_tblspc/16385/1', 'x/pg_tblspc/16385']) {
      const message = `the server sent "${name}" as a symbolic link, which no backup can hold`
      await assertRefused([link(name)], message)
    }
    const message = 'the server sent "pg_tblspc/16385" as a symbolic link, which no backup can hold'
    await assertRefused([link('pg_tblspc/16385')], message, elsewhere)
  })

  test('a file to be set aside that is too long to be held in memory', async () => {
    const size = 16 * 1024 * 1024 + 1
    await assertRefused(
      [{ name: 'backup_label', kind: 'file', size }],
      `the server sent a backup_label of ${size} bytes`,
    )
    const map: ServerFile = { name: 'tablespace_map', kind: 'file', content: Buffer.alloc(size - 1, 0x61) }
    const { aside } = await rewrite(serverTar([map]))
    assert.equal(aside.get('tablespace_map')?.content.equals(map.content ?? Buffer.alloc(0)), true)
  })

  test('to go on when its target fails, at once or later, in the header or in the body', async () => {
    for (const failAt of [1, 2]) {
      for (const isLate of [false, true]) {
        let calls = 0
        const target = {
          append: () => {
            if (++calls < failAt) return
            if (!isLate) throw new Error('no room')
            return Promise.reject(new Error('no room'))
          },
        }
        const rewriter = new TarRewriter({ place: () => target })
        await rewriter.beginArchive(main)
        await assert.rejects(async () => rewriter.feed(serverTar(some.slice(1))), { message: 'no room' })
        assert.equal(calls, failAt)
      }
    }
    const place = () => Promise.reject(new Error('no place'))
    const rewriter = new TarRewriter({ place })
    await rewriter.beginArchive(main)
    await assert.rejects(async () => rewriter.feed(serverTar(some)), { message: 'no place' })
  })
})
