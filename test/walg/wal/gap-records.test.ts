import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import {
  describeGap,
  gapKey,
  isBreak,
  type GapRecord,
  listGaps,
  parseGapKey,
  segmentsOf,
  writeGap,
} from '../../../src/walg/wal/gap-records.ts'
import { MemoryStorage, unavailable } from '../../harness/store/memory-storage.ts'

const MiB = 1024 * 1024

const gap: GapRecord = {
  timeline: 26,
  startLsn: parseLsn('1/6000000'),
  endLsn: parseLsn('1/8000000'),
  detectedAt: '2026-03-01T12:00:00.25Z',
  reason: 'the server had removed it',
  host: 'db1:5432',
  slot: 'walrx',
}
const key = 'walrx_005/gap/0000001A/0000000106000000-0000000108000000.json'

test('a record of one byte is a break, which lacks no segment; one of a lost byte is none', () => {
  const range = (start: string, end: string) => ({ startLsn: parseLsn(start), endLsn: parseLsn(end), timeline: 1 })
  assert.equal(isBreak(range('1/6000028', '1/6000029')), true)
  assert.equal(isBreak(range('1/6FFFFF8', '1/6FFFFF9')), true)
  assert.equal(segmentsOf(range('1/6FFFFF8', '1/6FFFFF9'), 16 * MiB), undefined)
  assert.equal(isBreak(range('1/6FFFFFF', '1/7000000')), false)
  assert.equal(isBreak(range('1/6000028', '1/6000030')), false)
})

describe('the object of a gap', () => {
  test('says what was lost, and is read back as it was written', async () => {
    const storage = new MemoryStorage()
    assert.equal(gapKey(gap), key)
    assert.equal(await writeGap(storage, gap), 'created')
    assert.deepEqual(JSON.parse(storage.objects.get(key)?.bytes.toString() ?? ''), {
      Timeline: 26,
      StartLsn: '1/6000000',
      EndLsn: '1/8000000',
      DetectedAt: '2026-03-01T12:00:00.25Z',
      Reason: 'the server had removed it',
      Host: 'db1:5432',
      Slot: 'walrx',
    })
    assert.deepEqual(await listGaps(storage), [gap])
  })

  test('has no slot where there was none', async () => {
    const storage = new MemoryStorage()
    await writeGap(storage, { ...gap, slot: undefined })
    assert.equal((await listGaps(storage))[0]?.slot, undefined)
  })

  test('stays as it is when the gap is found again: the first time counts', async () => {
    const storage = new MemoryStorage()
    await writeGap(storage, gap)
    assert.equal(await writeGap(storage, { ...gap, detectedAt: '2027-01-01T00:00:00Z', reason: 'again' }), 'same')
    assert.deepEqual(await listGaps(storage), [gap])
  })

  test('stays single when the answer to its first put was lost', async () => {
    let isLost = true
    const storage = new MemoryStorage({
      after: ({ operation }) => {
        if (operation === 'putIfAbsent' && isLost) throw unavailable()
      },
    })
    await assert.rejects(writeGap(storage, gap), { code: 'WALRX_STORAGE_UNAVAILABLE' })
    isLost = false
    assert.equal(await writeGap(storage, gap), 'same')
    assert.equal(storage.objects.size, 1)
  })

  test('that is damaged is named, with the field', async () => {
    const whole = { Timeline: 26, StartLsn: '1/6000000', EndLsn: '1/8000000', DetectedAt: '2026-03-01T12:00:00Z' }
    for (const [content, complaint] of [
      ['', /is not JSON/],
      ['[]', /is not a JSON object/],
      [JSON.stringify({ ...whole, Timeline: 1 }), /Timeline is 1, not 26 as in its key$/],
      [JSON.stringify({ ...whole, StartLsn: undefined }), /StartLsn is undefined, not 1\/6000000 as in its key$/],
      [JSON.stringify({ ...whole, EndLsn: '1/8000001' }), /EndLsn is "1\/8000001", not 1\/8000000 as in its key$/],
      [JSON.stringify({ ...whole, DetectedAt: 'today' }), /DetectedAt is "today", not a time such as/],
      [JSON.stringify({ ...whole, Reason: 7 }), /Reason is 7, not text$/],
    ] as const) {
      const storage = new MemoryStorage()
      storage.seed(key, Buffer.from(content))
      await assert.rejects(listGaps(storage), (error: Error & { code?: string }) => {
        assert.equal(error.code, 'WALRX_OBJECT_DAMAGED')
        assert.ok(error.message.includes(`memory://test/${key}`), error.message)
        assert.match(error.message, complaint)
        return true
      })
    }
  })
})

test('gaps are listed by timeline and start; what else lies in the folder is none', async () => {
  const storage = new MemoryStorage()
  const gaps = (['1/0', '0/6000000', '0/7000000'] as const).map((start, index) => ({
    ...gap,
    timeline: index === 2 ? 1 : 2,
    startLsn: parseLsn(start),
    endLsn: parseLsn('1/1000000'),
  }))
  for (const each of gaps) await writeGap(storage, each)
  for (const name of ['readme.txt', '00000001/x.json', '00000001/0000000000000002-0000000000000001.json']) {
    storage.seed(`walrx_005/gap/${name}`, Buffer.from('{}'))
  }
  assert.deepEqual(await listGaps(storage), [gaps[2], gaps[1], gaps[0]])
  assert.equal(parseGapKey('wal_005/000000010000000000000001'), undefined)
})

test('a gap lacks the segments it covers, but not the one in which its timeline ended', () => {
  const of = (start: string, end: string) =>
    segmentsOf({ timeline: 1, startLsn: parseLsn(start), endLsn: parseLsn(end) }, MiB)
  assert.deepEqual(of('0/600000', '0/800000'), { first: 6n, last: 7n })
  assert.deepEqual(of('0/600100', '0/800000'), { first: 6n, last: 7n })
  assert.deepEqual(of('0/600000', '0/800100'), { first: 6n, last: 7n })
  assert.equal(of('0/600000', '0/600100'), undefined)
})

test('a gap is described by its ends and the time at which it was noticed', () => {
  assert.equal(
    describeGap(gap),
    'WAL from 1/6000000 to 1/8000000 on timeline 26 was lost (detected at 2026-03-01T12:00:00.25Z)',
  )
})
