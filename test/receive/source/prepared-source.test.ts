import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import { type PreparedSource, type PrepareOptions, prepareSource } from '../../../src/receive/source/prepared-source.ts'
import { RecordingLog } from '../../backup/recording-log.ts'
import { FakeArchive, FakeSession, storageOut } from '../fakes.ts'

const end = parseLsn('0/9500000')
const redo = parseLsn('0/9400028')

class Bench {
  readonly archive = new FakeArchive()
  readonly archivedHistories: PrepareOptions['archivedHistories'] = new Map()
  session = new FakeSession(end, redo)

  prepare(over: Partial<PrepareOptions> = {}): Promise<PreparedSource> {
    return prepareSource(this.session, {
      archive: this.archive,
      slot: 'walrx',
      remakeSlot: false,
      allowStandby: false,
      log: silentLog,
      signal: new AbortController().signal,
      archivedHistories: this.archivedHistories,
      newestTimeline: 0,
      ...over,
    })
  }
}

const line = (timeline: number, lsn: string): string => `${timeline}\t${lsn}\tno recovery target specified\n`

describe('a server is asked', () => {
  test('who it is, and how large its segments and its patience are', async () => {
    const bench = new Bench()
    bench.session.settings = { wal_segment_size: '64MB', wal_sender_timeout: '10s' }
    const source = await bench.prepare()
    assert.deepEqual(
      [source.systemId, source.segmentSize, source.walSenderTimeoutMs, source.serverEnd],
      [bench.session.systemId, 64 * 1024 * 1024, 10_000, end],
    )
    assert.deepEqual(source.chain.links, [{ timeline: 1, begin: 0n, end: undefined }])
  })

  test('but not when it is a standby, unless that is allowed', async () => {
    const bench = new Bench()
    bench.session.inRecovery = true
    await assert.rejects(bench.prepare(), { code: 'WALRX_SOURCE_IN_RECOVERY', hint: /--allow-standby/ })
    assert.deepEqual([bench.session.calls, bench.archive.calls], [[], []], 'nothing was touched')
    await bench.prepare({ allowStandby: true })
  })

  test('and refused before anything is made, when it is a former primary', async () => {
    const bench = new Bench()
    const refusal = (message: RegExp) => ({
      code: 'WALRX_SOURCE_BEHIND',
      message,
      hint: /--set-aside 00000002.history/,
    })
    const seen = bench.prepare({ newestTimeline: 2 })
    await assert.rejects(seen, refusal(/fake:5432 is on timeline 1, and timeline 2 has begun already/))
    bench.archive.forks.set(1, { timeline: 2, switchpoint: parseLsn('0/5000028') })
    await assert.rejects(bench.prepare(), refusal(/00000002.history in the archive says .* left it at 0\/5000028/))
    assert.ok(!bench.session.calls.some((call) => call.startsWith('create')))
    bench.session.inRecovery = true
    await bench.prepare({ allowStandby: true })
  })

  test('and refused before anything is made, when the archive belongs to another cluster', async () => {
    const bench = new Bench()
    bench.archive.system = 1n
    await assert.rejects(bench.prepare(), { code: 'WALRX_OTHER_CLUSTER' })
    assert.ok(!bench.session.calls.some((call) => call.startsWith('create')))
  })

  test('in vain while the store is out: nothing is made then either', async () => {
    const bench = new Bench()
    bench.archive.outage = storageOut()
    await assert.rejects(bench.prepare(), bench.archive.outage)
    assert.ok(!bench.session.calls.some((call) => call.startsWith('create')))
  })
})

describe('the slot', () => {
  test('is made when it is missing, and then read', async () => {
    const bench = new Bench()
    const { slotRestart, slotState } = await bench.prepare()
    assert.deepEqual([slotRestart, slotState], [redo, 'missing'])
    assert.deepEqual(
      bench.session.calls.filter((call) => call.endsWith('walrx')),
      ['read walrx', 'create walrx', 'read walrx'],
    )
  })

  test('is expected to be missing at the first start: afterwards that is a warning', async () => {
    for (const [level, files] of [
      ['info', []],
      ['warn', ['000000010000000000000005']],
    ] as const) {
      const bench = new Bench()
      for (const name of files) bench.archive.files.set(name, Buffer.alloc(0))
      const log = new RecordingLog()
      await bench.prepare({ log })
      const made = log.lines.filter(({ message }) => message === 'created the replication slot')
      assert.deepEqual(
        made.map((entry) => entry.level),
        [level],
      )
    }
  })

  test('is taken as it is when it is there', async () => {
    const bench = new Bench()
    bench.session.setSlot('walrx', parseLsn('0/7000000'))
    assert.equal((await bench.prepare()).slotRestart, parseLsn('0/7000000'))
    assert.ok(!bench.session.calls.includes('create walrx'))
  })

  test('without a position keeps no WAL for us: it is dropped, and created again', async () => {
    const bench = new Bench()
    bench.session.setSlot('walrx', undefined)
    const { slotRestart, slotState } = await bench.prepare()
    assert.deepEqual([slotRestart, slotState], [redo, 'useless'])
    assert.deepEqual(
      bench.session.calls.filter((call) => call.endsWith('walrx')),
      ['read walrx', 'drop walrx', 'create walrx', 'read walrx'],
    )
  })

  test('with a position is created again only when the server has shown that it keeps nothing', async () => {
    for (const remakeSlot of [false, true]) {
      const bench = new Bench()
      bench.session.setSlot('walrx', parseLsn('0/7000000'))
      const { slotRestart, slotState } = await bench.prepare({ remakeSlot })
      assert.deepEqual([slotRestart, slotState], remakeSlot ? [redo, 'useless'] : [parseLsn('0/7000000'), 'found'])
      assert.equal(bench.session.calls.includes('drop walrx'), remakeSlot)
    }
  })

  test('that somebody uses is not dropped: the server says so', async () => {
    const bench = new Bench()
    bench.session.setSlot('walrx', undefined)
    bench.session.dropFailure = new WalrxError('WALRX_SLOT_ACTIVE', 'in use (test)')
    await assert.rejects(bench.prepare(), bench.session.dropFailure)
    assert.ok(!bench.session.calls.includes('create walrx'))
  })

  test('that keeps nothing right after it was created is reported, and tried again', async () => {
    const bench = new Bench()
    bench.session.createSlot = () => Promise.resolve(bench.session.setSlot('walrx', undefined))
    await assert.rejects(bench.prepare(), {
      code: 'WALRX_SLOT_UNUSABLE',
      message: /"walrx" on fake:5432 keeps no WAL/,
      transient: true,
    })
  })

  test('that cannot be read (14) is made in any case, and leaves the decision to the archive', async () => {
    const bench = new Bench()
    bench.session.slots.set('walrx', { kind: 'unreadable' })
    assert.equal((await bench.prepare()).slotRestart, undefined)
    assert.ok(bench.session.calls.includes('create walrx'))
    assert.ok(!bench.session.calls.includes('drop walrx'))
    await bench.prepare({ remakeSlot: true })
    assert.ok(bench.session.calls.includes('drop walrx'))
  })

  test('that is logical is refused, naming it', async () => {
    const bench = new Bench()
    bench.session.slots.set('walrx', { kind: 'logical' })
    for (const remakeSlot of [false, true]) {
      const refusal = { code: 'WALRX_SLOT_UNUSABLE', message: /"walrx" on fake:5432 is logical/ }
      await assert.rejects(bench.prepare({ remakeSlot }), refusal)
    }
    assert.ok(!bench.session.calls.includes('drop walrx'))
  })

  test('is neither read nor made without one', async () => {
    const bench = new Bench()
    assert.equal((await bench.prepare({ slot: undefined })).slotRestart, undefined)
    assert.ok(!bench.session.calls.some((call) => call.includes('walrx')))
  })
})

describe('timeline histories', () => {
  function onTimeline3(): Bench {
    const bench = new Bench()
    bench.session.timeline = 3
    bench.session.histories.set(2, line(1, '0/5000000'))
    bench.session.histories.set(3, line(1, '0/5000000') + line(2, '0/7000100'))
    return bench
  }

  test('of every ancestor are archived, the oldest first, byte for byte', async () => {
    const bench = onTimeline3()
    const { chain } = await bench.prepare()
    assert.deepEqual(
      bench.archive.calls.filter((call) => call.startsWith('history')),
      ['history 00000002.history', 'history 00000003.history'],
    )
    assert.equal(bench.archive.files.get('00000003.history')?.toString(), bench.session.histories.get(3))
    assert.deepEqual(
      chain.links.map(({ timeline, end: linkEnd }) => [timeline, linkEnd]),
      [
        [1, parseLsn('0/5000000')],
        [2, parseLsn('0/7000100')],
        [3, undefined],
      ],
    )
  })

  test('are archived once, but the own one of the server is looked at on every connection', async () => {
    const bench = onTimeline3()
    await bench.prepare()
    bench.session.calls.length = 0
    bench.archive.calls.length = 0
    await bench.prepare()
    assert.deepEqual(bench.archive.calls, ['bind'])
    assert.deepEqual(
      bench.session.calls.filter((call) => call.startsWith('history')),
      ['history 3'],
    )
  })

  test('that differ between two servers of the same timeline are a contradiction: both were promoted', async () => {
    const bench = onTimeline3()
    await bench.prepare()
    const other = new FakeSession(end, redo)
    other.timeline = 3
    other.histories.set(2, line(1, '0/5000000'))
    other.histories.set(3, line(1, '0/5000000') + line(2, '0/6FFF000'))
    bench.session = other
    await assert.rejects(bench.prepare(), { code: 'WALRX_ARCHIVE_CONFLICT', message: /00000003.history/ })
  })

  test('of ancestors that differ are a contradiction as well, also when the own one is new', async () => {
    const bench = new Bench()
    bench.session.timeline = 2
    bench.session.histories.set(2, line(1, '0/4000000'))
    await bench.prepare()
    bench.session = onTimeline3().session
    await assert.rejects(bench.prepare(), { code: 'WALRX_ARCHIVE_CONFLICT', message: /00000002.history/ })
    assert.equal(bench.archive.files.has('00000003.history'), false)
  })

  test('of ancestors may be missing on the server: the newest names them all', async () => {
    const bench = onTimeline3()
    bench.session.histories.delete(2)
    const { chain } = await bench.prepare()
    assert.equal(chain.links.length, 3)
    assert.deepEqual([...bench.archive.files.keys()], ['00000003.history'])
    await bench.prepare()
  })

  test('of the own timeline must be there: without it no fork is known', async () => {
    const bench = onTimeline3()
    bench.session.histories.delete(3)
    await assert.rejects(bench.prepare(), { code: 'WALRX_SERVER_ERROR', message: /own timeline 3/ })
  })

  test('that make no sense are no basis for anything', async () => {
    const bench = onTimeline3()
    bench.session.histories.set(3, 'nonsense\n')
    await assert.rejects(bench.prepare(), { code: 'WALRX_OBJECT_DAMAGED' })
    assert.ok(!bench.archive.files.has('00000003.history'))
  })

  test('are archived even when one put fails at first: what failed is tried again', async () => {
    const bench = onTimeline3()
    const archiveHistory = bench.archive.archiveHistory.bind(bench.archive)
    let isOut = true
    bench.archive.archiveHistory = (name, content) =>
      isOut && name.startsWith('00000003') ? Promise.reject(storageOut()) : archiveHistory(name, content)
    await assert.rejects(bench.prepare(), { code: 'WALRX_STORAGE_UNAVAILABLE' })
    isOut = false
    await bench.prepare()
    assert.ok(bench.archive.files.has('00000003.history'))
  })
})
