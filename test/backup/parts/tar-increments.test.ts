import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { IncrementCheck } from '../../../src/backup/parts/increment-check.ts'
import { type EntryNames, TarRewriter } from '../../../src/backup/parts/tar-rewriter.ts'
import type { BackupTablespace } from '../../../src/postgres/backup/base-backup-sink.ts'
import { fullLabel } from '../../../src/postgres/backup/incremental-label.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import {
  applyNative,
  applyWi1,
  drawPage,
  drawPages,
  type NativeIncrement,
  nativeBytes,
  page,
} from '../../harness/made/increments.ts'
import { Random } from '../../harness/random.ts'
import { RecordingPlacer, type Wait } from './recording-placer.ts'
import { readTar, type ServerFile, serverTar } from './tars.ts'

const main: BackupTablespace = { oid: undefined, location: '', sizeBytes: undefined }
const other: BackupTablespace = { oid: 16385, location: '/ts', sizeBytes: undefined }

/** Whatever is asked for, in this spelling. */
const everything = (prefix: '/' | ''): EntryNames => ({ prefix, has: () => true })

/** Feeds archives cut anywhere, from memory that is used again. */
async function rewrite(
  rewriter: TarRewriter,
  archives: readonly (readonly [BackupTablespace, readonly ServerFile[]])[],
  random: Random,
): Promise<void> {
  for (const [tablespace, files] of archives) {
    await rewriter.beginArchive(tablespace)
    const tar = serverTar(files)
    for (let at = 0; at < tar.length;) {
      const piece = Buffer.from(tar.subarray(at, at + random.pick([1, 100, 511, 512, 4096, 30_000])))
      await rewriter.feed(piece)
      at += piece.length
      piece.fill(0xee)
    }
  }
  rewriter.end()
}

function drawIncrement(random: Random): NativeIncrement {
  const blocks = random.int(0, 12)
  return { truncation: random.int(0, blocks + 3), pages: drawPages(random, blocks) }
}

describe('increments', () => {
  for (const prefix of ['/', ''] as const) {
    test(`become WAL-G's, under names that begin with "${prefix}"`, async () => {
      for (let seed = 1; seed <= 40; seed++) {
        const random = new Random(seed)
        const drawn = Array.from({ length: random.int(1, 4) }, () => drawIncrement(random))
        const files = drawn.map((increment, index): ServerFile => {
          return { name: `base/5/INCREMENTAL.${16384 + index}`, kind: 'file', content: nativeBytes(increment) }
        })
        const elsewhere = drawIncrement(random)
        const there = 'PG_17_202406281/5/INCREMENTAL.16500.1'
        const waits = (function* (): Generator<Wait> {
          for (;;) yield random.pick([0, 0, 1, 2])
        })()
        const placer = new RecordingPlacer(waits)
        const rewriter = new TarRewriter(placer, everything(prefix))
        const archives = [
          [other, [{ name: there, kind: 'file', content: nativeBytes(elsewhere) }]],
          [
            main,
            [
              { name: 'base', kind: 'directory' },
              ...files,
              { name: 'base/5/1', kind: 'file', content: Buffer.from('x') },
            ],
          ],
        ] as const
        await rewrite(rewriter, archives, random)
        const entries = new Map(
          (await readTar(Buffer.concat([placer.tar, Buffer.alloc(1024)]))).map((e) => [e.name, e.content]),
        )
        const assertOne = (name: string, increment: NativeIncrement) => {
          const file = Buffer.concat(Array.from({ length: 20 }, () => drawPage(random)))
          const body = entries.get(name) ?? assert.fail(`seed ${seed}: ${name} is missing`)
          assert.ok(applyWi1(file, body).equals(applyNative(file, increment)), `seed ${seed}: ${name}`)
          assert.equal(rewriter.files.get(name)?.isIncremented, true)
        }
        for (const [index, increment] of drawn.entries()) assertOne(`${prefix}base/5/${16384 + index}`, increment)
        assertOne(`${prefix}pg_tblspc/16385/PG_17_202406281/5/16500.1`, elsewhere)
        assert.equal(rewriter.files.get(`${prefix}base/5/1`)?.isIncremented, false)
        const sent = nativeBytes(elsewhere)
        assert.deepEqual(rewriter.increments.get(`pg_tblspc/16385/${there}`), {
          size: sent.length,
          crc32c: crc32c(sent),
        })
        assert.equal(rewriter.increments.size, drawn.length + 1)
      }
    })
  }

  const bad: readonly (readonly [string, Buffer, RegExp])[] = [
    ['of no bytes', Buffer.alloc(0), /a damaged increment of \/base\/5\/1: it ends after 0 of 0 bytes/],
    ['of another format', Buffer.alloc(20, 1), /a damaged increment of .*: the magic is/],
    [
      'that is cut short',
      nativeBytes({ truncation: 1, pages: new Map([[0, Buffer.alloc(page)]]) }).subarray(0, 9000),
      /it has 9000 bytes/,
    ],
  ]
  for (const [what, content, message] of bad) {
    test(`${what} end the backup`, async () => {
      const rewriter = new TarRewriter(new RecordingPlacer(), everything('/'))
      const files: ServerFile[] = [{ name: 'base/5/INCREMENTAL.1', kind: 'file', content }]
      await assert.rejects(rewrite(rewriter, [[main, files]], new Random(1)), { code: 'WALRX_PROTOCOL', message })
    })
  }

  test('of files that the parent has not end the backup; in a full one such a name means nothing', async () => {
    const content = nativeBytes({ truncation: 1, pages: new Map() })
    const files: ServerFile[] = [{ name: 'base/5/INCREMENTAL.1', kind: 'file', content }]
    const stranger = new TarRewriter(new RecordingPlacer(), { prefix: '/', has: (name) => name !== '/base/5/1' })
    await assert.rejects(rewrite(stranger, [[main, files]], new Random(1)), {
      code: 'WALRX_PROTOCOL',
      message: /sent base\/5\/INCREMENTAL\.1, and the backup that it builds on has no \/base\/5\/1/,
    })
    const full = new TarRewriter(new RecordingPlacer())
    await rewrite(full, [[main, files]], new Random(1))
    assert.deepEqual([...full.files.keys()], ['/base/5/INCREMENTAL.1'])
  })
})

describe("the server's manifest", () => {
  const received = new Map([['base/5/INCREMENTAL.1', { size: 12, crc32c: 0x01020304 }]])
  const manifestOf = (...files: readonly object[]) => {
    const text = `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"Files": ${JSON.stringify(files)},\n`
    return Buffer.from(`${text}"Manifest-Checksum": "${createHash('sha256').update(text).digest('hex')}"}\n`)
  }
  const entry = (more: object) => {
    return { Path: 'base/5/INCREMENTAL.1', Size: 12, 'Checksum-Algorithm': 'CRC32C', Checksum: '04030201', ...more }
  }
  const check = async (manifest: Buffer) => {
    const checking = new IncrementCheck(received)
    for (const byte of manifest) checking.write(Buffer.from([byte]))
    checking.end()
  }

  test('that agrees is right, other files and checksums aside', async () => {
    await check(manifestOf(entry({}), { Path: 'base/5/2', Size: 1 }))
    await check(manifestOf(entry({ 'Checksum-Algorithm': 'SHA256', Checksum: 'ff' })))
  })

  for (const [what, files, message] of [
    ['has another checksum', [entry({ Checksum: '04030202' })], /CRC-32C 04030201, .* says 12 and 04030202/],
    ['has another size', [entry({ Size: 13 })], /came with 12 bytes .* says 13/],
    ['lacks one', [], /lacks base\/5\/INCREMENTAL\.1/],
    [
      'has one more',
      [entry({}), entry({ Path: 'base/5/INCREMENTAL.2' })],
      /lists base\/5\/INCREMENTAL\.2, which did not/,
    ],
  ] as const) {
    test(`that ${what} ends the backup`, async () => {
      await assert.rejects(check(manifestOf(...files)), { code: 'WALRX_PROTOCOL', message })
    })
  }

  test('that is not what it says of itself ends the backup', async () => {
    const manifest = manifestOf(entry({}))
    manifest[5] = 0x70
    await assert.rejects(check(manifest), {
      code: 'WALRX_OBJECT_DAMAGED',
      message: /the server's manifest has SHA-256/,
    })
  })
})

describe('a label', () => {
  const origin = { startLsn: parseLsn('0/2000028'), timeline: 1 }
  const plain = 'START WAL LOCATION: 0/4000028 (file 000000010000000000000004)\nLABEL: \xff\n'
  const lines = 'INCREMENTAL FROM LSN: 0/2000028\nINCREMENTAL FROM TLI: 1\n'

  test('loses what keeps a server from starting, and nothing else', () => {
    assert.deepEqual(fullLabel(Buffer.from(plain + lines, 'latin1'), origin), Buffer.from(plain, 'latin1'))
  })

  test('that names another parent, or none, ends the backup', () => {
    const of = (text: string) => () => fullLabel(Buffer.from(text, 'latin1'), origin)
    const error = (message: RegExp) => ({ code: 'WALRX_PROTOCOL', message })
    assert.throws(of(plain), error(/an increment without a start, but the request was from 0\/2000028 on timeline 1/))
    assert.throws(of(plain + lines.replace('0/2000028', '0/3000028')), error(/from 0\/3000028 on timeline 1/))
    assert.throws(of(plain + lines.replace('TLI: 1', 'TLI: 2')), error(/on timeline 2, /))
  })
})
