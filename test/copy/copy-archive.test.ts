/** Whole copies: what they have, in which order, after any end; what is refused. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { hasCode, WalrxError } from '../../src/primitives/errors.ts'
import { JsonDocument } from '../../src/walg/json-document.ts'
import {
  backupFolder,
  contentsKey,
  metadataKey,
  nameOfSentinel,
  sentinelKey,
} from '../../src/walg/backup/backup-names.ts'
import { parseContents } from '../../src/walg/backup/backup-contents.ts'
import { parseSentinel, withPermanence } from '../../src/walg/backup/sentinel.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { systemKey, tailKey, walKey } from '../../src/walg/names.ts'
import { madeSegmentSize } from '../harness/made/made-wal.ts'
import { type MemoryStorage, unavailable } from '../harness/store/memory-storage.ts'
import {
  contentOf,
  copy,
  delta,
  full,
  makeArchive,
  newTarget,
  second,
  seedBackup,
  seedSegment,
  segment,
  wholeOf,
} from './made-archive.ts'

const target = newTarget
const refused = (code: WalrxError['code'], message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof WalrxError, String(error))
  assert.equal(error.code, code, error.message)
  assert.match(error.message, message)
  return true
}
const writes = (storage: MemoryStorage) =>
  storage.calls.filter(({ operation }) => operation === 'put' || operation === 'putIfAbsent').map(({ key }) => key)

/** Every backup that the copy lists has its parent, all of its objects and all of its WAL. */
function assertRestorable(storage: MemoryStorage): void {
  for (const [key, { bytes }] of storage.objects) {
    const name = nameOfSentinel(key)
    if (name === undefined) continue
    const sentinel = parseSentinel(bytes, key)
    const parent = sentinel.delta?.parentName
    assert.ok(parent === undefined || storage.peek(sentinelKey(parent)), `${name} lacks ${parent}`)
    assert.ok(storage.peek(metadataKey(name)), `${name} lacks its metadata`)
    const contents = parseContents(storage.peek(contentsKey(name)) ?? assert.fail(`${name} has no list`), name)
    for (const object of contents.objects.values())
      assert.equal(storage.peek(backupFolder(name) + object.name)?.length, object.size, `${name}: ${object.name}`)
    const size = BigInt(madeSegmentSize)
    const timeline = parseInt(name.slice(5, 13), 16)
    for (let segno = (sentinel.startLsn ?? 0n) / size; segno <= (sentinel.finishLsn ?? 0n) / size; segno++)
      assert.ok(storage.peek(walKey(segment(Number(segno), timeline), 'zst')), `${name} lacks segment ${segno}`)
    assert.ok(storage.peek(systemKey))
  }
}

describe('a whole copy', () => {
  test('has the bytes of its source, but what is not complete', async () => {
    const [source, to] = [makeArchive(), target()]
    const summary = await copy(source, to, {}, { verify: true })
    assert.deepEqual(contentOf(to), wholeOf(source))
    assert.deepEqual(summary.backups, [full, delta, second])
    // All but the marker, which the target gets as its own.
    assert.equal(summary.objects, to.objects.size - 1)
    assert.ok(summary.compared >= summary.objects)
    assert.equal(source.openBodies, 0)
    assert.equal(to.openBodies, 0)
  })

  test('writes the marker first, WAL before backups, and sentinels last, parents before deltas', async () => {
    const to = target()
    await copy(makeArchive(), to, {}, { concurrency: 16 })
    const keys = writes(to).filter((key) => !key.includes('/probe/'))
    assert.equal(keys[0], systemKey)
    const firstBackup = keys.findIndex((key) => key.startsWith('basebackups_005/'))
    const wal = keys.slice(firstBackup).filter((key) => key.startsWith('wal_005/'))
    assert.deepEqual(wal, [])
    const sentinels = keys.filter((key) => nameOfSentinel(key) !== undefined)
    assert.deepEqual(sentinels.map(nameOfSentinel), [full, delta, second])
    for (const name of [full, delta, second]) {
      const own = keys.filter((key) => key.startsWith(backupFolder(name)) || key === sentinelKey(name))
      assert.deepEqual(own.slice(-2), [metadataKey(name), sentinelKey(name)])
    }
    const times = [full, delta, second].map((name) => to.objects.get(sentinelKey(name))?.lastModifiedMs ?? 0)
    assert.deepEqual(times, [...new Set(times)].sort(), 'LATEST of WAL-G and WAL-RUS is the last of the source')
  })

  test('is worth what it shows after an end at any write, and goes on without a second copy of anything', async () => {
    const source = makeArchive()
    const probe = target()
    await copy(source, probe)
    const total = writes(probe).length
    for (let kill = 0; kill < total; kill++) {
      const to = target()
      let count = 0
      // One in two is stored, and its answer lost.
      to[kill % 2 === 0 ? 'before' : 'after'] = ({ operation }) => {
        if (operation.startsWith('put') && count++ >= kill) throw unavailable(`write ${kill}`)
      }
      await assert.rejects(copy(source, to), (error) => hasCode(error, 'WALRX_STORAGE_UNAVAILABLE'))
      assertRestorable(to)
      const stored = new Set(to.objects.keys())
      to.before = to.after = undefined
      to.calls.length = 0
      await copy(source, to)
      assert.deepEqual(
        contentOf(to, (key) => !key.includes('/probe/')),
        wholeOf(source),
        `write ${kill}`,
      )
      // A sentinel may be put again, for its time.
      const again = writes(to).filter((key) => stored.has(key) && nameOfSentinel(key) === undefined)
      assert.deepEqual(again, [], `write ${kill}`)
      assert.equal(to.openBodies + source.openBodies, 0, `write ${kill}`)
    }
  })

  test('asks for no segment and no part of a copy that is there, and lists each side once', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    source.calls.length = to.calls.length = 0
    const summary = await copy(source, to)
    assert.equal(summary.objects, 0)
    const asked = to.calls.filter(
      ({ key, operation }) =>
        operation !== 'list' && /^(wal_005\/.{24}[._]|basebackups_005\/.*tar_partitions)/.test(key),
    )
    assert.deepEqual(asked, [])
    const heads = source.calls.filter(({ operation }) => operation === 'head')
    assert.deepEqual(heads, [])
  })

  test('takes what has come since', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    source.objects.delete(tailKey(segment(12, 2), { from: 0, to: 8192 }, ''))
    source.objects.delete(tailKey(segment(12, 2), { from: 8192, to: 16_384 }, ''))
    seedSegment(source, segment(12, 2))
    seedBackup(source, 'base_00000002000000000000000C', { first: 12, last: 12, hour: 13 })
    const summary = await copy(source, to)
    assert.deepEqual(summary.backups, ['base_00000002000000000000000C'])
    // The chunks of the segment that is whole now are gone from the copy, too.
    assert.deepEqual(contentOf(to), wholeOf(source))
  })

  test('takes WAL that a receiver archives meanwhile, and the tail as it is then', async () => {
    const [source, to] = [makeArchive(), target()]
    to.before = ({ key, operation }) => {
      if (operation !== 'putIfAbsent' || key !== sentinelKey(second)) return
      seedSegment(source, segment(12, 2))
      for (const each of source.objects.keys()) if (each.startsWith('walrx_005/tail/')) source.objects.delete(each)
    }
    await copy(source, to)
    assert.deepEqual(contentOf(to), wholeOf(source))
  })

  test('follows a tail whose chunks are replaced while it is copied', async () => {
    const [source, to] = [makeArchive(), target()]
    const larger = tailKey(segment(12, 2), { from: 0, to: 16_384 }, '')
    const chunks = [...source.objects.keys()].filter((key) => key.startsWith('walrx_005/tail/'))
    source.before = ({ key, operation }) => {
      if (operation !== 'get' || key !== chunks[1]) return
      source.seed(larger, Buffer.concat(chunks.map((each) => source.peek(each) ?? Buffer.alloc(0))))
      for (const each of chunks) source.objects.delete(each)
    }
    const summary = await copy(source, to)
    assert.equal(summary.hasTail, true)
    assert.ok(to.peek(larger))
  })

  test('leaves out a backup that is deleted meanwhile, and all that builds on it', async () => {
    const [source, to] = [makeArchive(), target()]
    source.before = ({ key, operation }) => {
      if (operation !== 'get' || !key.startsWith(`${backupFolder(full)}tar_partitions/`)) return
      for (const each of source.objects.keys())
        if (each.startsWith(backupFolder(full)) || each === sentinelKey(full)) source.objects.delete(each)
    }
    const summary = await copy(source, to)
    assert.deepEqual(summary.backups, [second])
    assert.equal(to.peek(sentinelKey(delta)), undefined)
    assertRestorable(to)
  })

  test('writes nothing in a dry run', async () => {
    const [source, to] = [makeArchive(), target()]
    const summary = await copy(source, to, {}, { dryRun: true })
    assert.deepEqual(summary.backups, [full, delta, second])
    assert.equal(to.objects.size, 0)
    assert.deepEqual(writes(to), [])
    assert.equal(summary.bytes, summary.plan.missing.bytes)
  })
})

describe('what is there', () => {
  test('is never replaced: other bytes are named, and nothing is written', async () => {
    const [source, to] = [makeArchive(), target()]
    to.seed(walKey(segment(3), 'zst'), zstdCompressSync(Buffer.from('other WAL')))
    to.seed(systemKey, source.peek(systemKey) ?? '')
    const before = contentOf(to)
    await assert.rejects(
      copy(source, to),
      refused('WALRX_ARCHIVE_CONFLICT', new RegExp(`under wal_005/${segment(3)}.zst:`)),
    )
    assert.deepEqual(contentOf(to), before)
  })

  test('may be the same WAL in another form, by another receiver', async () => {
    const [source, to] = [makeArchive(), target()]
    const stored = source.peek(walKey(segment(3), 'zst')) ?? Buffer.alloc(0)
    to.seed(walKey(segment(3), ''), zstdDecompressSync(stored))
    to.seed(
      walKey(segment(4), 'zst'),
      zstdCompressSync(zstdDecompressSync(source.peek(walKey(segment(4), 'zst')) ?? stored), { params: { 100: 19 } }),
    )
    await copy(source, to)
    assert.equal(to.peek(walKey(segment(3), 'zst')), undefined)
    to.seed(walKey(segment(5), ''), Buffer.from('other'))
    to.objects.delete(walKey(segment(5), 'zst'))
    await assert.rejects(copy(source, to), refused('WALRX_ARCHIVE_CONFLICT', new RegExp(segment(5))))
  })

  test('of another cluster is refused, by its marker and by its backups', async () => {
    const to = target()
    to.seed(systemKey, '{"SystemIdentifier":1,"WalSegmentSize":1048576}')
    await assert.rejects(copy(makeArchive(), to), refused('WALRX_OTHER_CLUSTER', /memory:\/\/target belongs to .* 1 /))
    const unmarked = target()
    seedBackup(unmarked, 'base_000000010000000000000099', { first: 0x99, last: 0x99, hour: 9, systemId: 7n })
    await assert.rejects(copy(makeArchive(), unmarked), refused('WALRX_OTHER_CLUSTER', /7/))
    assert.equal(writes(unmarked).length, 0)
  })

  test('must not hold parts that the source does not have: a restore would extract them', async () => {
    const [source, to] = [makeArchive(), target()]
    to.seed(`${backupFolder(full)}tar_partitions/part_002.tar.zst`, 'of somebody else')
    await assert.rejects(copy(source, to), refused('WALRX_ARCHIVE_CONFLICT', /part_002/))
  })

  test('is repaired where objects are missing', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    to.objects.delete(`${backupFolder(full)}tar_partitions/part_001.tar.zst`)
    const summary = await copy(source, to)
    assert.deepEqual(summary.backups, [full])
    assert.deepEqual(contentOf(to), wholeOf(source))
  })

  test('of the same size with other bytes is found by --verify, and by the MD5 of two buckets', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    const key = walKey(segment(3), 'zst')
    const bytes = Buffer.from(to.peek(key) ?? '')
    bytes[40] = (bytes[40] ?? 0) ^ 1
    to.seed(key, bytes)
    await copy(source, to)
    await assert.rejects(copy(source, to, {}, { verify: true }), refused('WALRX_ARCHIVE_CONFLICT', new RegExp(key)))
    const withSums = (storage: MemoryStorage, salt: string) => {
      const list = storage.list.bind(storage)
      storage.list = async function* (prefix, options) {
        for await (const info of list(prefix, options))
          yield { ...info, md5: (storage.peek(info.key)?.toString('hex') ?? '').slice(0, 200) + salt }
      }
    }
    withSums(source, '')
    withSums(to, '')
    await assert.rejects(copy(source, to), refused('WALRX_ARCHIVE_CONFLICT', new RegExp(key)))
  })

  test('with other sums for the same bytes is compared once: one of the stores encrypts', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    for (const [storage, salt] of [
      [source, 'a'],
      [to, 'b'],
    ] as const) {
      const list = storage.list.bind(storage)
      storage.list = async function* (prefix, options) {
        for await (const info of list(prefix, options)) yield { ...info, md5: salt }
      }
    }
    to.calls.length = 0
    await copy(source, to)
    const read = to.calls.filter(({ key, operation }) => operation === 'get' && /^wal_005.*zst$/.test(key))
    assert.ok(read.length <= 1, String(read.length))
  })
})

describe('damage', () => {
  test('of a part is found by the list of its backup: no sentinel', async () => {
    const [source, to] = [makeArchive(), target()]
    const key = `${backupFolder(delta)}tar_partitions/part_001.tar.zst`
    source.seed(key, Buffer.from(source.peek(key) ?? '').fill(7, 3, 4))
    await assert.rejects(copy(source, to), refused('WALRX_OBJECT_DAMAGED', /part_001.* CRC-32C/))
    assert.equal(to.peek(key), undefined)
    assert.equal(to.peek(sentinelKey(delta)), undefined)
    assertRestorable(to)
  })

  test('of the target is found when an object is read back', async () => {
    const to = target()
    to.body = (key, chunks) =>
      key !== walKey(segment(4), 'zst')
        ? chunks
        : (async function* () {
            for await (const chunk of chunks) yield Buffer.from(chunk).fill(0, 0, 1)
          })()
    await assert.rejects(copy(makeArchive(), to), refused('WALRX_OBJECT_DAMAGED', /was read back with/))
  })

  test('of a backup that lacks a part is named', async () => {
    const [source, to] = [makeArchive(), target()]
    source.objects.delete(`${backupFolder(second)}tar_partitions/pg_control.tar.zst`)
    await assert.rejects(copy(source, to), refused('WALRX_BACKUP_INCOMPLETE', new RegExp(second)))
    assert.equal(to.peek(sentinelKey(second)), undefined)
    assert.ok(to.peek(sentinelKey(delta)))
  })
})

describe('marks and order', () => {
  test('a mark comes along later, and one of the copy alone stays', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    for (const [storage, name] of [
      [source, second],
      [to, full],
    ] as const) {
      const archive = new BackupArchive(storage)
      const metadata = (await archive.readMetadata(name)) ?? assert.fail()
      await archive.putMetadata(name, { ...metadata, isPermanent: true })
    }
    await copy(source, to)
    const marked = async (name: string) => (await new BackupArchive(to).readMetadata(name))?.isPermanent
    assert.deepEqual([await marked(full), await marked(delta), await marked(second)], [true, false, true])
  })

  test('a document that differs in more than its mark is a conflict', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to)
    const fields = JsonDocument.parse(source.peek(sentinelKey(full)) ?? Buffer.alloc(0), full).rest()
    to.seed(
      sentinelKey(full),
      withPermanence(
        Buffer.from(
          JSON.stringify({ ...fields, Hostname: 'another host', LSN: 1, FinishLSN: 2, SystemIdentifier: undefined }),
        ),
        true,
        full,
      ),
    )
    await assert.rejects(copy(source, to), refused('WALRX_ARCHIVE_CONFLICT', new RegExp(sentinelKey(full))))
  })

  test('an older backup that comes after a newer one leaves LATEST as it is', async () => {
    const [source, to] = [makeArchive(), target()]
    await copy(source, to, { backup: second })
    const summary = await copy(source, to)
    assert.deepEqual(summary.backups, [full, delta])
    const times = [full, delta, second].map((name) => to.objects.get(sentinelKey(name))?.lastModifiedMs ?? 0)
    assert.ok((times[2] ?? 0) > Math.max(times[0] ?? 0, times[1] ?? 0), times.join(' '))
    assert.deepEqual(contentOf(to), wholeOf(source))
  })
})
