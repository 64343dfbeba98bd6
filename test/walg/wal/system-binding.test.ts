import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { readSystem } from '../../../src/walg/wal/system-marker.ts'
import { WalArchive } from '../../../src/walg/wal/wal-archive.ts'
import { encodeCopy, randomBytesOf } from '../../harness/made/codec-streams.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'

const mebi = 1024 * 1024
const ours = 7455523487659893045n
const theirs = 7455523487659893046n // the same double as ours

let storage: MemoryStorage
beforeEach(() => {
  storage = new MemoryStorage()
})

const bind = (systemId: bigint, segmentSize = 16 * mebi) =>
  new WalArchive(storage, openWriteCodec('zstd')).bindSystem(systemId, segmentSize)
const isOtherCluster = (error: unknown) => hasCode(error, 'WALRX_OTHER_CLUSTER')

/** Of our cluster, with both segment sizes and the key that says the archive's. */
const isOtherSize = (held: number, key: string) => (error: unknown) => {
  assert.ok(isOtherCluster(error), String(error))
  const { hint, message } = error as Error & { hint: string }
  for (const part of [`segments of ${held} bytes (${key})`, `is ${64 * mebi} bytes`, 'memory://test'])
    assert.ok(message.includes(part), message)
  assert.match(hint, /use a new prefix/)
  return true
}

function sentinel(name: string, fields: string, lastModifiedMs: number): void {
  storage.seed(
    `basebackups_005/${name}_backup_stop_sentinel.json`,
    `{"LSN":50331688,${fields}"Version":2}`,
    lastModifiedMs,
  )
}

function page(systemId: bigint, segmentSize = 16 * mebi): Buffer {
  const bytes = Buffer.alloc(8192)
  bytes.writeUInt16LE(0xd116, 0)
  bytes.writeUInt16LE(2, 2)
  bytes.writeUInt32LE(1, 4)
  bytes.writeBigUInt64LE(systemId, 24)
  bytes.writeUInt32LE(segmentSize, 32)
  bytes.writeUInt32LE(8192, 36)
  return bytes
}

test('an empty archive is bound by a marker with the bare number', async () => {
  assert.equal(await readSystem(storage), undefined)
  await bind(ours)
  assert.equal(
    storage.peek('walrx_005/system.json')?.toString(),
    `{"SystemIdentifier":${ours},"WalSegmentSize":${16 * mebi}}\n`,
  )
  assert.deepEqual(await readSystem(storage), { systemId: ours, segmentSize: 16 * mebi })
})

test('the same cluster finds itself with one request, another is refused although a double could not show it', async () => {
  await bind(ours)
  storage.calls.length = 0
  await bind(ours)
  assert.deepEqual(storage.log, ['get walrx_005/system.json'])
  await assert.rejects(bind(theirs), (error) => {
    assert.ok(isOtherCluster(error))
    const { message } = error as Error
    for (const part of [String(ours), String(theirs), 'memory://test']) assert.ok(message.includes(part), message)
    return true
  })
})

test('of two clusters that come at once exactly one gets the archive', async () => {
  const outcomes = await Promise.allSettled([bind(ours), bind(theirs), bind(ours), bind(theirs)])
  const winner = (await readSystem(storage))?.systemId
  outcomes.forEach((outcome, n) => {
    const isWinner = (n % 2 === 0 ? ours : theirs) === winner
    assert.equal(outcome.status, isWinner ? 'fulfilled' : 'rejected')
    if (outcome.status === 'rejected') assert.ok(isOtherCluster(outcome.reason))
  })
})

test('a marker that cannot be read stops, and is not replaced', async () => {
  for (const text of ['', '{}', '[]', '{"SystemIdentifier":"7455523487659893045"}', '{"SystemIdentifier":7.4e18}']) {
    storage.seed('walrx_005/system.json', text)
    await assert.rejects(bind(ours), (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'), text)
    assert.equal(storage.peek('walrx_005/system.json')?.toString(), text)
  }
})

test('the newest backup that names its system decides, and its thousands of parts are not listed', async () => {
  const name = (n: number) => `base_00000001000000000000000${n}`
  sentinel(name(1), `"SystemIdentifier":${theirs},`, 1000)
  sentinel(name(3), `"SystemIdentifier":${ours},`, 3000)
  sentinel(`${name(2)}_D_000000010000000000000001`, `"SystemIdentifier":${theirs},`, 2000)
  sentinel(name(4), '', 4000)
  for (let backup = 1; backup < 5; backup++) {
    for (let part = 0; part < 3000; part++)
      storage.seed(`basebackups_005/${name(backup)}/tar_partitions/part_${part}.tar.lz4`, '')
  }
  await bind(ours)
  const listings = storage.log.filter((line) => line === 'list basebackups_005/')
  // Of each backup as many objects are read past as one listing shows, and the rest is leapt over.
  assert.ok(listings.length < 12, `${listings.length} listings`)
  storage.objects.delete('walrx_005/system.json')
  await assert.rejects(bind(theirs), isOtherCluster)
})

test('a sentinel that is no JSON stops with its name', async () => {
  storage.seed('basebackups_005/base_000000010000000000000001_backup_stop_sentinel.json', '{"LSN":')
  await assert.rejects(
    bind(ours),
    (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED') && error.message.includes('base_000000010000000000000001'),
  )
})

test('segments of another cluster are refused even where the backups are ours', async () => {
  sentinel('base_000000010000000000000001', `"SystemIdentifier":${ours},`, 1000)
  storage.seed('wal_005/000000010000000000000001.lz4', await encodeCopy(openWriteCodec('lz4'), page(ours)))
  storage.seed('wal_005/000000010000000000000002.zst', await encodeCopy(openWriteCodec('zstd'), page(theirs)))
  await assert.rejects(
    bind(ours),
    (error) => isOtherCluster(error) && (error as Error).message.includes('000000010000000000000002'),
  )
  storage.seed('wal_005/000000010000000000000003.', page(ours))
  await bind(ours)
})

test('of a segment only the beginning is read', async () => {
  storage = new MemoryStorage({ chunkBytes: 8192 })
  const whole = Buffer.concat([page(ours), randomBytesOf(1, 4 * mebi)])
  storage.seed('wal_005/000000010000000000000001', whole)
  let chunksRead = 0
  storage.body = async function* (_key, chunks) {
    for await (const chunk of chunks) {
      chunksRead++
      yield chunk
    }
  }
  await bind(ours)
  assert.ok(chunksRead < 100, `${chunksRead} chunks were read`)
})

test('an archive with a newest segment that walrx cannot read is refused with the reason', async () => {
  for (const [key, bytes, code] of [
    ['000000010000000000000001.zst', Buffer.alloc(5000), 'WALRX_OTHER_CLUSTER'],
    ['000000010000000000000001.lzo', randomBytesOf(2, 5000), 'WALRX_OTHER_CLUSTER'],
    ['000000010000000000000001', randomBytesOf(3, 5000), 'WALRX_KEY_MISSING'],
    ['000000010000000000000001.zst', randomBytesOf(4, 5000), 'WALRX_KEY_MISSING'],
    ['000000010000000000000001', Buffer.alloc(0), 'WALRX_OTHER_CLUSTER'],
  ] as const) {
    storage.objects.clear()
    storage.seed(`wal_005/${key}`, bytes)
    await assert.rejects(bind(ours), (error) => hasCode(error, code) && error.message.includes(key))
    assert.equal(storage.peek('walrx_005/system.json'), undefined)
  }
})

describe('another segment size of the same cluster', () => {
  test('is refused by the marker, with one request', async () => {
    await bind(ours)
    storage.calls.length = 0
    await assert.rejects(bind(ours, 64 * mebi), isOtherSize(16 * mebi, 'walrx_005/system.json'))
    assert.deepEqual(storage.log, ['get walrx_005/system.json'])
    assert.deepEqual(await readSystem(storage), { systemId: ours, segmentSize: 16 * mebi })
  })

  test('is refused by the newest segment where a marker does not have it, and only then is one read', async () => {
    const marker = `{"SystemIdentifier":${ours}}`
    storage.seed('walrx_005/system.json', marker)
    await bind(ours, 64 * mebi)
    storage.seed('wal_005/000000010000000000000001', page(ours, 64 * mebi))
    storage.seed('wal_005/000000010000000000000002.lz4', await encodeCopy(openWriteCodec('lz4'), page(ours)))
    await bind(ours)
    await assert.rejects(bind(ours, 64 * mebi), isOtherSize(16 * mebi, 'wal_005/000000010000000000000002.lz4'))
    assert.equal(storage.peek('walrx_005/system.json')?.toString(), marker)
  })

  test('is refused by the newest segment of an archive without a marker, and none is made', async () => {
    sentinel('base_000000010000000000000001', `"SystemIdentifier":${ours},`, 1000)
    storage.seed('wal_005/000000010000000000000001', page(ours))
    await assert.rejects(bind(ours, 64 * mebi), isOtherSize(16 * mebi, 'wal_005/000000010000000000000001'))
    assert.equal(storage.peek('walrx_005/system.json'), undefined)
    await bind(ours)
  })

  test('is refused to the later one of two that come at once', async () => {
    const outcomes = await Promise.allSettled([bind(ours), bind(ours, 64 * mebi)])
    const size = (await readSystem(storage))?.segmentSize
    assert.deepEqual(
      outcomes.map(({ status }) => status === 'fulfilled'),
      [size === 16 * mebi, size === 64 * mebi],
    )
  })
})
