import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { silentLog } from '../../../src/observe/log.ts'
import { formatLsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import { GapRecorder, lostRanges } from '../../../src/receive/gap/gap-recorder.ts'
import type { GapRecord } from '../../../src/walg/wal/gap-records.ts'
import type { PreparedSource } from '../../../src/receive/source/prepared-source.ts'
import { VirtualClock } from '../../harness/time/virtual-clock.ts'
import { FakeArchive, FakeSession, RecordingMeter } from '../fakes.ts'

const MiB = 1024 * 1024
const never = new AbortController().signal
const one = new TimelineChain(1, [])
const lsn = parseLsn

describe('what is lost', () => {
  const forked = new TimelineChain(5, [
    { timeline: 1, switchpoint: lsn('0/380000') },
    { timeline: 2, switchpoint: lsn('0/3C0000') },
    { timeline: 4, switchpoint: lsn('0/600000') },
  ])
  const of = (chain: TimelineChain, from: string, to: string) =>
    lostRanges(chain, lsn(from), lsn(to), MiB).map(
      ({ endLsn, startLsn, timeline }) => `${timeline} ${formatLsn(startLsn)} ${formatLsn(endLsn)}`,
    )

  test('lies on the timeline of its bytes', () => {
    assert.deepEqual(of(one, '0/200000', '0/500000'), ['1 0/200000 0/500000'])
    assert.deepEqual(of(forked, '0/200000', '0/300000'), ['1 0/200000 0/300000'])
    assert.deepEqual(of(forked, '0/700000', '0/900000'), ['5 0/700000 0/900000'])
  })

  test('is cut at forks; of a timeline that ends where the loss begins, nothing is', () => {
    assert.deepEqual(of(forked, '0/200000', '0/800000'), [
      '1 0/200000 0/380000',
      '4 0/3C0000 0/600000',
      '5 0/600000 0/800000',
    ])
    assert.deepEqual(of(forked, '0/300000', '0/400000'), ['4 0/3C0000 0/400000'])
  })

  test('is nothing where nothing lies between', () => {
    assert.deepEqual(of(forked, '0/300000', '0/300000'), [])
    assert.deepEqual(of(forked, '0/400000', '0/300000'), [])
  })
})

describe('a gap is reported', () => {
  function setUp() {
    const archive = new FakeArchive()
    const reported: GapRecord[] = []
    const recorder = new GapRecorder({
      archive,
      segmentSize: MiB,
      clock: new VirtualClock(),
      random: () => 0,
      log: silentLog,
      meter: new RecordingMeter(),
      slot: 'walrx',
      onGap: (gap) => reported.push(gap),
    })
    const connect = (slotState: PreparedSource['slotState']) =>
      recorder.connected({ session: new FakeSession(0n as never), slotState })
    const record = () => recorder.record(one, lsn('0/200000'), lsn('0/500000'), never)
    return { archive, recorder, reported, connect, record }
  }

  test('with what was found at the connections since the slot last moved', async () => {
    const { archive, connect, record, recorder } = setUp()
    connect('useless')
    connect('missing')
    connect('found')
    await record()
    await record()
    connect('found')
    await record()
    connect('missing')
    recorder.slotMoved()
    connect('none')
    await record()
    recorder.because('it was dropped')
    connect('missing')
    await record()
    assert.deepEqual(
      archive.gaps.map(({ reason }) => reason),
      [
        'the server had invalidated the slot and removed it',
        'the server had invalidated the slot and removed it',
        'the server removed it although the slot was there',
        'nothing kept it and the server removed it',
        'it was dropped',
      ],
    )
  })

  test('to its listener, also when it was known', async () => {
    const { archive, connect, record, reported } = setUp()
    connect('found')
    await record()
    await record()
    assert.equal(archive.gaps.length, 2)
    assert.deepEqual(reported, archive.gaps)
  })

  test('as an error where no other attempt would help', async () => {
    const { archive, record, reported } = setUp()
    archive.outage = new WalrxError('WALRX_INTERNAL', 'a defect (test)')
    await assert.rejects(record(), archive.outage)
    assert.deepEqual(reported, [])
  })
})
