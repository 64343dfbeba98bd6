import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import { type Lsn, parseLsn, type Timeline } from '../../../src/postgres/lsn.ts'
import type { ReplicationServer, ReplicationSession } from '../../../src/postgres/protocol/session.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'
import { judgeHosts, refusedHosts, type WritableHost } from '../../../src/receive/source/host-choice.ts'
import { FakeArchive, FakeSession, storageOut } from '../fakes.ts'

const never = new AbortController().signal
const lsn = (segment: number): Lsn => parseLsn(`0/${segment.toString(16)}000028`)

/** A host on a timeline, with where its ancestors ended, in segments. */
function host(name: string, timeline: Timeline, ...ends: readonly [Timeline, number][]): WritableHost {
  const entries = ends.map(([ended, at]) => ({ timeline: ended, switchpoint: lsn(at) }))
  return { host: name, systemId: 1n, chain: new TimelineChain(timeline, entries) }
}

/** An archive that has segments of these timelines. */
function archiveOf(...timelines: readonly Timeline[]): FakeArchive {
  const archive = new FakeArchive()
  for (const timeline of timelines)
    archive.files.set(`${String(timeline).padStart(8, '0')}0000000000000001`, Buffer.alloc(0))
  return archive
}

async function refused(hosts: readonly WritableHost[], archive = archiveOf(1)): Promise<string[]> {
  return [...(await judgeHosts(hosts, archive, never)).keys()]
}

describe('of hosts that can be written', () => {
  test('one alone, and those with the same history, are for others to judge', async () => {
    assert.deepEqual(await refused([host('a', 1)]), [])
    assert.deepEqual(await refused([host('a', 2, [1, 5]), host('b', 2, [1, 5])]), [])
  })

  test('one on a timeline that another one has left is refused, first or not', async () => {
    const [former, present] = [host('a', 1), host('b', 2, [1, 5])]
    for (const hosts of [
      [former, present],
      [present, former],
    ]) {
      const judged = await judgeHosts(hosts, archiveOf(1), never)
      assert.deepEqual([...judged.keys()], ['a'])
      const refusal = judged.get('a')
      assert.equal(refusal?.code, 'WALRX_SOURCE_BEHIND')
      assert.equal(refusal.message, 'a is on timeline 1, which b left at 0/5000028 for timeline 2')
    }
    assert.deepEqual(await refused([former, host('b', 2, [1, 5]), host('c', 4, [1, 5], [2, 7])]), ['a', 'b'])
  })

  test('where histories diverge, what the archive holds decides', async () => {
    const hosts = [host('a', 3, [1, 6]), host('b', 2, [1, 5])]
    assert.deepEqual(await refused(hosts, archiveOf(1, 2)), ['a'])
    assert.deepEqual(await refused(hosts, archiveOf(1, 3)), ['b'])
  })

  test('of two that gave the same number to different timelines, the one with the archived fork is right', async () => {
    const archive = archiveOf(1, 2)
    archive.forks.set(1, { timeline: 2, switchpoint: lsn(5) })
    assert.deepEqual(await refused([host('a', 2, [1, 6]), host('b', 2, [1, 5])], archive), ['a'])
  })

  test('none is taken where the archive does not decide, and all are named', async () => {
    const hosts = [host('a', 3, [1, 6]), host('b', 2, [1, 5])]
    for (const [archive, holding] of [
      [archiveOf(1), /holds timeline 1$/],
      [archiveOf(1, 4), /holds timeline 4$/],
    ] as const) {
      await assert.rejects(judgeHosts(hosts, archive, never), (error: Error & { code: string }) => {
        assert.equal(error.code, 'WALRX_SOURCE_AMBIGUOUS')
        assert.match(error.message, /a has 1 up to 0\/6000028, 3; b has 1 up to 0\/5000028, 2; /)
        assert.match(error.message, holding)
        return true
      })
    }
    await assert.rejects(judgeHosts(hosts, new FakeArchive(), never), /the archive holds nothing yet/)
  })

  test('nothing is decided while the archive cannot be asked', async () => {
    const archive = archiveOf(1)
    archive.outage = storageOut()
    await assert.rejects(judgeHosts([host('a', 3, [1, 6]), host('b', 2, [1, 5])], archive, never), archive.outage)
    assert.deepEqual([...(await judgeHosts([host('a', 1), host('b', 2, [1, 5])], archive, never)).keys()], ['a'])
  })
})

describe('all hosts are asked', () => {
  /** Shows every session, and notes what `look` throws. */
  class Everyone implements ReplicationServer {
    readonly sessions: readonly FakeSession[]
    readonly failures: unknown[] = []

    constructor(...sessions: readonly FakeSession[]) {
      this.sessions = sessions
    }

    connect(): Promise<ReplicationSession> {
      return Promise.reject(new Error('nobody connects (test)'))
    }

    async survey(_signal: AbortSignal, look: (session: ReplicationSession) => Promise<void>): Promise<void> {
      for (const session of this.sessions) await look(session).catch((error: unknown) => this.failures.push(error))
    }
  }

  function session(name: string, timeline: Timeline, over: Partial<FakeSession> = {}): FakeSession {
    const made = Object.assign(new FakeSession(lsn(9)), { host: name, timeline, ...over })
    if (timeline === 2) made.histories.set(2, `1\t0/5000028\tno recovery target specified\n`)
    return made
  }

  const survey = async (everyHost: Everyone | undefined): Promise<string[]> => {
    const refusals = await refusedHosts({ everyHost, archive: archiveOf(1), log: silentLog, signal: never })
    return [...refusals.keys()]
  }

  test('and only those that can be written are compared, with others of their cluster', async () => {
    assert.deepEqual(await survey(undefined), [])
    assert.deepEqual(await survey(new Everyone(session('a', 1), session('b', 2))), ['a'])
    assert.deepEqual(await survey(new Everyone(session('a', 1), session('b', 2, { inRecovery: true }))), [])
    assert.deepEqual(await survey(new Everyone(session('a', 1), session('b', 2, { systemId: 3n }))), [])
  })

  test('one that lacks its own history is left out', async () => {
    const without = session('b', 2)
    without.histories.clear()
    const everyone = new Everyone(session('a', 1), without)
    assert.deepEqual(await survey(everyone), [])
    assert.match(String(everyone.failures[0]), /b has no history file of its own timeline 2/)
  })
})
