/** What a copy does beside a receiver that sends segments out of order, and how it finds objects that are not the same. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { inspect as format } from 'node:util'
import { silentLog } from '../../src/observe/log.ts'
import { WalrxError } from '../../src/primitives/errors.ts'
import { backupFolder, contentsKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { tailKey, walKey } from '../../src/walg/names.ts'
import { madeSegmentSize, makeSegment } from '../harness/made/made-wal.ts'
import { contentOf, copy, delta, full, makeArchive, newTarget, seedSegment, segment, wholeOf } from './made-archive.ts'

const target = newTarget
const refused = (code: WalrxError['code'], message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof WalrxError, String(error))
  assert.equal(error.code, code, error.message)
  assert.match(error.message, message)
  return true
}

describe('a segment that is uploaded after later ones', () => {
  for (const when of ['once the rest is copied', 'never'] as const) {
    test(`leaves no hole, or a warning: it comes ${when}`, async () => {
      const [source, to] = [makeArchive(), target()]
      const late = walKey(segment(9, 2), 'zst')
      const bytes = source.peek(late) ?? assert.fail()
      source.objects.delete(late)
      to.after = ({ operation, key }) => {
        if (when !== 'never' && operation === 'putIfAbsent' && key === walKey(segment(11, 2), 'zst'))
          source.seed(late, bytes)
      }
      const warnings: string[] = []
      const log = { ...silentLog, warn: (message: string, fields?: object) => warnings.push(message + format(fields)) }
      await copy(source, to, {}, { log, verify: true })
      assert.deepEqual(contentOf(to), wholeOf(source))
      assert.equal(warnings.length, when === 'never' ? 1 : 0, warnings.join())
      if (when === 'never') assert.match(warnings[0] ?? '', new RegExp(`the copy lacks WAL.*${segment(9, 2)}`, 's'))
    })
  }

  test('comes along with a mirror that has all later ones', async () => {
    const [source, to] = [makeArchive(), target()]
    const late = walKey(segment(10, 2), 'zst')
    const bytes = source.peek(late) ?? assert.fail()
    source.objects.delete(late)
    await copy(source, to)
    seedSegment(source, segment(12, 2))
    to.after = ({ operation, key }) => {
      if (operation === 'putIfAbsent' && key === walKey(segment(12, 2), 'zst')) source.seed(late, bytes)
    }
    await copy(source, to)
    assert.deepEqual(to.peek(late), bytes)
  })
})

describe('without sums', () => {
  test('an uncompressed segment of another history is found by its first pages, a document by all of it', async () => {
    for (const key of [walKey(segment(3), ''), 'wal_005/00000002.history', contentsKey(full)]) {
      const [source, to] = [makeArchive(), target()]
      source.seed(walKey(segment(3), ''), makeSegment(segment(3)))
      source.objects.delete(walKey(segment(3), 'zst'))
      await copy(source, to)
      const bytes = Buffer.from(to.peek(key) ?? assert.fail())
      bytes[bytes.length > 8192 ? 9000 : bytes.length - 2]! ^= 1
      to.seed(key, bytes)
      await assert.rejects(copy(source, to), refused('WALRX_ARCHIVE_CONFLICT', new RegExp(key)))
    }
  })

  test('an object that goes while it is compared leaves the sums to decide of all others', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    const [gone, changed] = [walKey(segment(2), 'zst'), walKey(segment(4), 'zst')]
    to.seed(changed, Buffer.from(to.peek(changed) ?? '').fill(1, 40, 41))
    for (const storage of [source, to]) {
      const list = storage.list.bind(storage)
      storage.list = async function* (prefix, options) {
        for await (const info of list(prefix, options))
          yield {
            ...info,
            md5: (storage.peek(info.key)?.toString('hex') ?? '') + (info.key === gone ? storage.location : ''),
          }
      }
    }
    source.before = ({ operation, key }) => {
      if (operation === 'get' && key === gone) source.objects.delete(gone)
    }
    await assert.rejects(copy(source, to), refused('WALRX_ARCHIVE_CONFLICT', new RegExp(changed)))
  })
})

describe('--verify', () => {
  for (const key of [
    walKey(segment(3), 'zst'),
    `${backupFolder(full)}tar_partitions/part_001.tar.zst`,
    sentinelKey(delta),
  ])
    test(`names what the copy lacks: ${key}`, async () => {
      const [source, to] = [makeArchive(), target()]
      const onVerify = () => Promise.resolve(void to.objects.delete(key))
      await assert.rejects(
        copy(source, to, {}, { verify: true, onVerify }),
        refused('WALRX_OBJECT_DAMAGED', new RegExp(`memory://target lacks ${key}`)),
      )
    })

  test('passes over what came to the source since, and what has gone from it', async () => {
    const [source, to] = [makeArchive(), target()]
    const onVerify = () => {
      seedSegment(source, segment(12, 2))
      source.seed('wal_005/00000003.history', 'x')
      source.seed(tailKey(segment(13, 2), { from: 0, to: 8192 }, ''), Buffer.alloc(8192))
      source.before = ({ operation, key }) => {
        if (operation === 'head' && key === walKey(segment(3), 'zst')) source.objects.delete(key)
      }
      to.objects.delete(walKey(segment(3), 'zst'))
      return Promise.resolve()
    }
    await copy(source, to, {}, { verify: true, onVerify })
  })

  test('compares a segment that the copy has in another form', async () => {
    const [source, to] = [makeArchive(), target()]
    to.seed(walKey(segment(3), ''), makeSegment(segment(3)))
    await copy(source, to, {}, { verify: true })
    const onVerify = () => Promise.resolve(to.seed(walKey(segment(3), ''), Buffer.alloc(madeSegmentSize)))
    await assert.rejects(
      copy(source, to, {}, { verify: true, onVerify }),
      refused('WALRX_ARCHIVE_CONFLICT', new RegExp(segment(3))),
    )
  })
})
