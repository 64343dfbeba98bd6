/**
 * kill -9 at each step on the way of a segment and of its beginning into the archive: opening, writing, syncing, linking
 * and removing files, puts and removals in a bucket, and the flush position on its way to the server. One receiver after
 * the other dies, each takes up what the one before has left, and the last one finds nothing wrong.
 */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type Lsn, parseLsn } from '../../../src/postgres/lsn.ts'
import { segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import {
  archivedKeys,
  assertUnbroken,
  compareWithServer,
  endOfSwitched,
  watchFlushes,
} from '../../harness/store/archive-check.ts'
import type { FaultMode, ProxiedRequest } from '../../harness/store/faulty-proxy.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'
import { WireTap } from '../../harness/postgres/wire-tap.ts'
import { StoreWorld } from './store-world.ts'

const segmentSize = 1024 * 1024
const timeout = 300_000
const killer = new URL('../../harness/walrx/kill-at-step.ts', import.meta.url).href

let server: TestPostgres

before(async () => {
  const settings = { wal_keep_size: '2GB', max_wal_size: '2GB', checkpoint_timeout: '1h' }
  server = await startPostgres({ major: 17, segmentSizeMb: 1, settings })
})
after(() => server[Symbol.asyncDispose]())

/** The beginning of a segment, waited for in the archive unless walrx dies of it, and the segment's end. */
async function writeSegment(receiver: WalrxProcess): Promise<void> {
  await server.sql(`select pg_logical_emit_message(true, 'walrx', repeat('x', 200000))`)
  const from = receiver.lines.length
  await Promise.race([receiver.logged('stored', from).catch(() => {}), receiver.ended])
  await endSegment()
}

/** Ends the segment. Returns where the next one begins. */
async function endSegment(): Promise<Lsn> {
  const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
  await server.sql(`select pg_logical_emit_message(true, 'walrx', 'one more')`)
  return end
}

const flags = ['--tail-interval=20ms', '--log-level=debug']

describe('kill -9', () => {
  test('at each system call of an archive in a directory', { timeout }, async (t) => {
    const archive = mkdtempSync(join(tmpdir(), 'walrx-steps-'))
    await using tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
    watchFlushes(tap, archive, () => 1, segmentSize)
    const conninfo = `${server.conninfo()} port=${tap.port}`
    const args = ['wal-receive', '--file-prefix', archive, '--dbname', conninfo, '--slotname', 'directory', ...flags]
    try {
      for (const step of [
        'before open wal_005/.',
        'before write wal_005/.',
        'after write wal_005/.',
        'before close wal_005/.',
        'before link wal_005/.',
        'after link wal_005/.',
        'before sync wal_005$',
        'after sync wal_005$',
        'before write walrx_005/tail/.',
        'after sync walrx_005/tail/.',
        'before unlink walrx_005/tail/.*/[^./][^/]*$',
        'after unlink walrx_005/tail/.*/[^./][^/]*$',
      ]) {
        await t.test(step, async () => {
          const env = { NODE_OPTIONS: `--import=${killer}`, WALRX_TEST_KILL_AT: step }
          await using receiver = startWalrx(args, { env })
          await receiver.logged('streaming')
          receiver.child.kill('SIGUSR2')
          await receiver.logged('armed')
          await writeSegment(receiver)
          await until(`the kill ${step}`, () => receiver.hasEnded, 20_000)
          assert.equal((await receiver.ended).signal, 'SIGKILL', receiver.stderr)
          assert.deepEqual(tap.failures, [], 'a flush position was ahead of the archive')
        })
      }
      await using last = startWalrx(args)
      await last.logged('streaming')
      const end = await endSegment()
      await tap.flushed(end)
      assert.deepEqual(tap.failures, [], 'a flush position was ahead of the archive')
      assertUnbroken(archive, 1, end, segmentSize)
      assert.ok(compareWithServer(archive, server) >= 12)
      assert.equal((await last.stop()).status, 0)

      // What the dead have left of segments that others made whole goes with the next start.
      await using tidying = startWalrx(args)
      await tidying.logged('streaming')
      const chunks = () =>
        archivedKeys(archive)
          .filter((key) => key.startsWith('walrx_005/tail/'))
          .map((key) => basename(dirname(key)))
      const present = segmentNameAt(1, end, segmentSize)
      await until('the chunks of whole segments to go', () => chunks().every((segment) => segment >= present))
      assert.equal((await tidying.stop()).status, 0)
    } finally {
      rmSync(archive, { recursive: true, force: true })
    }
  })

  test('at each request of an archive in a bucket, and at an acknowledgement', { timeout }, async (t) => {
    await using world = await StoreWorld.open()
    await using tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
    const { proxy } = world
    const tooEarly: string[] = []
    const looks: Promise<unknown>[] = []
    let onFlush = () => {}
    tap.onStatus = ({ flush }) => {
      if (flush === 0n) return
      const name = segmentNameAt(1, (flush - 1n) as Lsn, segmentSize)
      looks.push(world.storage.head(`wal_005/${name}.zst`).then((info) => !info && tooEarly.push(name)))
      onFlush()
    }
    const receive = () => world.receive(`${server.conninfo()} port=${tap.port}`, ['--slotname', 'bucket', ...flags])

    const isPut = (folder: string) => (request: ProxiedRequest) =>
      request.method === 'PUT' && request.url.includes(folder)
    const isRemoval = ({ method, url }: ProxiedRequest) => method === 'DELETE' || url.includes('?delete')
    const atRequest = (mode: FaultMode, when: (request: ProxiedRequest) => boolean) => () => {
      proxy.fail(mode, { count: Infinity, when })
      return Promise.resolve(() => proxy.saw(mode))
    }
    const restart = async () => {
      const [slot] = await server.sql<{ lsn: string }>(
        `select restart_lsn::text as lsn from pg_replication_slots where slot_name = 'bucket'`,
      )
      return slot?.lsn
    }
    /** Makes ready, and returns what resolves at the moment to kill at. */
    const steps: Record<string, () => Promise<() => Promise<unknown>>> = {
      'the put of a segment has come': atRequest('stall', isPut('wal_005')),
      'the put of a segment is done and not answered': atRequest('mute', isPut('wal_005')),
      'the put of a chunk has come': atRequest('stall', isPut('walrx_005/tail')),
      'the put of a chunk is done and not answered': atRequest('mute', isPut('walrx_005/tail')),
      'the removal of chunks has come': atRequest('stall', isRemoval),
      'the removal of chunks is done and not answered': atRequest('mute', isRemoval),
      'a flush position is on its way and never arrives': () => {
        const { promise, resolve } = Promise.withResolvers<void>()
        onFlush = () => {
          tap.freeze()
          resolve()
        }
        return Promise.resolve(() => promise)
      },
      'the server has the flush position': async () => {
        const known = await restart()
        return () => until('the slot to move', async () => (await restart()) !== known)
      },
    }
    for (const [step, prepare] of Object.entries(steps)) {
      await t.test(step, async () => {
        await using receiver = receive()
        await receiver.logged('streaming')
        const isReached = await prepare()
        const writing = writeSegment(receiver)
        await isReached()
        receiver.child.kill('SIGKILL')
        await receiver.ended
        await writing
        onFlush = () => {}
        tap.cut()
        world.recover()
      })
    }
    await using last = receive()
    await last.logged('streaming')
    const end = await endSegment()
    await tap.flushed(end)
    await Promise.all(looks)
    assert.deepEqual(tooEarly, [], 'a flush position was ahead of the bucket')
    const names = await world.segments()
    assert.deepEqual(await world.compareWithServer(server), names)
    assert.equal(names.at(-1), segmentNameAt(1, (end - 1n) as Lsn, segmentSize))
    const numbers = names.map((name) => Number.parseInt(name.slice(16), 16))
    assert.deepEqual(
      numbers,
      Array.from(numbers, (_, index) => (numbers[0] ?? 0) + index),
      'a segment is missing',
    )
    assert.equal((await last.stop()).status, 0)
  })
})
