/** `walrx check` finds each of these misconfigurations, and its advice, followed to the letter, mends it. */
import assert from 'node:assert/strict'
import { mkdir, readdir } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import type { PgSession } from '../../../src/postgres/connect/pg-session.ts'
import { freePort } from '../../harness/ports.ts'
import { startStandby } from '../../harness/postgres/postgres-copies.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'
import { type FaultyS3, startFaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'
import type { S3Action } from '../../harness/store/faulty-s3/s3-request.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { type CheckWorld, findingOf, playRound, runCheck } from './check-rounds.ts'

let server: TestPostgres
let store: FaultyS3
let world: CheckWorld
let archive: string
const allowed = new Set<S3Action>()
const password = { PGPASSWORD: 'not-a-secret-here' }

before(async () => {
  const root = newServerDirectory('check')
  archive = join(root, 'archive')
  await mkdir(archive, { recursive: true })
  server = await startPostgres({
    major: 17,
    segmentSizeMb: 1,
    dataChecksums: true,
    settings: { fsync: 'on', wal_level: 'minimal', max_wal_senders: '0', max_replication_slots: '0' },
    hba: 'local all,replication all trust\nhost all,replication all 127.0.0.1/32 trust\n',
  })
  await server.sql(`create role walrx login replication password '${password.PGPASSWORD}' in role pg_monitor`)
  store = await startFaultyS3({ allowed })
  world = { server, root, allowed }
})
after(async () => {
  await server[Symbol.asyncDispose]()
  await store[Symbol.asyncDispose]()
})

const set = (name: string, value: string) => server.sql(`alter system set ${name} = '${value}'`)
const toServer = () => ['--dbname', server.conninfo('walrx')]
const call = (...more: string[]) => ['--file-prefix', archive, ...toServer(), ...more]

async function listenAnywhere(): Promise<{ readonly taken: Server; readonly port: number }> {
  const port = await freePort()
  const taken = createServer((socket) => socket.destroy())
  await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve))
  return { taken, port }
}

// The order is that of a cluster's life: the first rounds make a server that can be received from.
describe('check', { concurrency: 1, timeout: 300_000 }, () => {
  test('a server that was never meant to be archived', async () => {
    await playRound(
      world,
      [
        {
          what: 'wal_level is minimal',
          id: 'server.wal_level',
          level: 'error',
          says: /minimal, and must be replica/,
          // Takes effect with the restart that the advice asks for.
          provoke: () => set('archive_mode', 'on'),
        },
        { what: 'no walsenders', id: 'server.max_wal_senders', level: 'error', says: /is 0, and must be 2/ },
        { what: 'no slots', id: 'slot.free', level: 'error', says: /is 0, and must be 1/ },
      ],
      call(),
    )
    assert.deepEqual(await readdir(archive), [], 'nothing is left of a check')
  })

  test('a role that may not replicate', async () => {
    const id = 'server.connection'
    const provoke = () => server.sql('alter role walrx noreplication')
    const role = { what: 'no REPLICATION', id, level: 'error', says: /walsender|REPLICATION/, provoke } as const
    await playRound(world, [role], call())
  })

  test('a pg_hba.conf without a line for replication', async () => {
    const provoke = async () => {
      const hba = 'local all,replication all trust\nhost all all 127.0.0.1/32 trust\n'
      await server.configure({ hba })
      await server.reload()
    }
    const hba = { what: 'pg_hba.conf', id: 'server.connection', level: 'error', says: /28000/, provoke } as const
    await playRound(world, [hba], call(), password)
  })

  test('a role that may not log in', async () => {
    const provoke = () => server.sql('alter role walrx nologin')
    const role = { what: 'NOLOGIN', id: 'server.connection', level: 'error', says: /28000/, provoke } as const
    await playRound(world, [role], call(), password)
    await server.configure({ hba: 'local all,replication all trust\nhost all,replication all 127.0.0.1/32 trust\n' })
    await server.reload()
  })

  test('all walsenders are taken', async () => {
    const conninfo = parseConninfo(server.conninfo(), {
      env: {},
      flags: {},
      readFile: () => undefined,
      osUser: undefined,
      home: undefined,
    })
    const others = new PgServer({ conninfo })
    const sessions: PgSession[] = []
    const id = 'server.max_wal_senders'
    const provoke = async () => {
      await set('wal_level', 'logical')
      for (let count = 0; count < 10; count++) sessions.push(await others.connect())
    }
    const taken = { what: 'no free walsender', id, level: 'error', says: /10 are in use/, provoke } as const
    await playRound(world, [taken], call())
    for (const session of sessions) await session.close().catch(() => {})
  })

  test('settings of the server that a reload changes', async () => {
    const { port, taken } = await listenAnywhere()
    taken.unref()
    const warning = { level: 'warning' } as const
    await playRound(
      world,
      [
        {
          what: 'no time-out',
          id: 'server.wal_sender_timeout',
          ...warning,
          says: /is 0/,
          provoke: () => set('wal_sender_timeout', '0'),
        },
        {
          what: 'torn pages',
          id: 'server.full_page_writes',
          ...warning,
          says: /is off/,
          provoke: () => set('full_page_writes', 'off'),
        },
        { what: 'no fsync', id: 'server.fsync', ...warning, says: /is off/, provoke: () => set('fsync', 'off') },
        {
          what: 'no summaries',
          id: 'server.summarize_wal',
          ...warning,
          says: /is off/,
          provoke: () => set('summarize_wal', 'off'),
        },
        {
          what: 'a tiny limit',
          id: 'slot.limit',
          level: 'error',
          says: /1MB, and must hold 2/,
          provoke: () => set('max_slot_wal_keep_size', '1MB'),
        },
        { what: 'an empty archive_command', id: 'server.archive_mode', ...warning, says: /is empty/ },
        {
          what: 'few connections',
          id: 'server.role',
          ...warning,
          says: /may have 2/,
          provoke: () => server.sql('alter role walrx connection limit 2'),
        },
        {
          what: 'a status page that cannot be',
          id: 'machine.status_port',
          level: 'error',
          says: /another program/,
          provoke: () => server.reload(),
        },
      ],
      call('--delta-max-steps', '6', '--status-listen', `127.0.0.1:${port}`),
    )
    await new Promise((closed) => taken.close(closed))
  })

  test('settings that contradict other options', async () => {
    await set('synchronous_standby_names', 'walrx')
    await server.reload()
    const waits = {
      what: 'commits that wait',
      id: 'server.synchronous',
      level: 'error',
      says: /without --sync/,
    } as const
    await playRound(world, [waits], call())
    await set('synchronous_standby_names', '')
    await server.reload()
    await server.sql('revoke pg_monitor from walrx')
    const nobody = {
      what: 'nobody waits',
      id: 'server.synchronous',
      level: 'warning',
      says: /must name walrx/,
    } as const
    const monitor = {
      what: 'no pg_monitor',
      id: 'server.privileges',
      level: 'note',
      says: /no member of pg_monitor/,
    } as const
    await playRound(world, [monitor], call())
    await playRound(world, [nobody], call('--synchronous'))
    await set('synchronous_standby_names', '')
    await server.reload()
    const keep = {
      what: 'no slot and no WAL',
      id: 'slot.wal_keep_size',
      level: 'warning',
      says: /wal_keep_size is 0/,
    } as const
    const connect = () => server.sql('revoke connect on database postgres from public')
    const sql = { what: 'no CONNECT', id: 'server.sql', level: 'note', says: /42501/, provoke: connect } as const
    await playRound(world, [keep, sql], call('--slotless'))
  })

  test('slots', async () => {
    await server.sql(`select pg_create_logical_replication_slot('other', 'pgoutput')`)
    const logical = { what: 'a logical slot', id: 'slot.state', level: 'error', says: /is logical/ } as const
    await playRound(world, [logical], call('--slotname', 'other'))
    await server.sql(`select pg_create_physical_replication_slot('idle')`)
    const idle = { what: 'a slot without WAL', id: 'slot.state', level: 'warning', says: /no restart_lsn/ } as const
    await playRound(world, [idle], call('--slotname', 'idle'))
    const lose = async () => {
      await server.sql(`select pg_create_physical_replication_slot('lost', true)`)
      await set('max_slot_wal_keep_size', '1MB')
      // The advice of earlier rounds keeps WAL as well.
      await set('wal_keep_size', '0')
      await set('summarize_wal', 'off')
      await server.reload()
      for (let count = 0; count < 5; count++) {
        await server.sql('create table if not exists t (x int); insert into t values (1)')
        await server.switchWal()
      }
      await server.checkpoint()
      await set('max_slot_wal_keep_size', '10GB')
      await server.reload()
    }
    const lost = { what: 'a lost slot', id: 'slot.state', level: 'error', says: /invalidated/, provoke: lose } as const
    await playRound(world, [lost], call('--slotname', 'lost'))
  })

  test('a slot that another receiver uses, and the archive of another cluster', async () => {
    await using receiver = startWalrx(['wal-receive', ...call('--slotname', 'busy')], { env: { PGAPPNAME: 'another' } })
    await receiver.logged('streaming')
    const busy = { what: 'a slot in use', id: 'slot.use', level: 'error', says: /another of role walrx/ } as const
    await playRound(world, [busy], call('--slotname', 'busy'))
    const own = findingOf(await runCheck(call('--slotname', 'busy'), { PGAPPNAME: 'another' }), 'slot.use')
    assert.equal(own.level, 'ok', own.text)
    await using other = await startPostgres({ major: 17, segmentSizeMb: 1, fresh: true })
    const wrong = {
      what: 'another cluster',
      id: 'storage.cluster',
      level: 'error',
      says: new RegExp(`${server.systemId}`),
    } as const
    await playRound({ ...world, server: other }, [wrong], ['--file-prefix', archive, '--dbname', other.conninfo()])
  })

  test('a standby', async () => {
    await using standby = await startStandby(server)
    const found = { what: 'a standby', id: 'server.standby', level: 'error', says: /is a standby/ } as const
    await playRound(
      { ...world, server: standby },
      [found],
      ['--file-prefix', archive, '--dbname', standby.conninfo('walrx')],
    )
  })

  test('a directory that is missing', async () => {
    const missing = { what: 'no directory', id: 'storage.list', level: 'error', says: /does not exist/ } as const
    await playRound(world, [missing], ['--file-prefix', join(world.root, 'a new one'), ...toServer()])
  })

  test('a key of the store without its rights', async () => {
    const env = {
      WALG_S3_PREFIX: `s3://${store.bucket}/db1`,
      AWS_ENDPOINT: store.endpoint,
      AWS_S3_FORCE_PATH_STYLE: 'true',
      AWS_REGION: store.region,
      AWS_ACCESS_KEY_ID: store.accessKeyId,
      AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
    }
    const denied = { says: /AccessDenied/ } as const
    await playRound(
      world,
      [
        { what: 'no listing', id: 'storage.list', level: 'error', ...denied },
        { what: 'no put', id: 'storage.put', level: 'error', ...denied },
        { what: 'no delete', id: 'storage.delete', level: 'warning', ...denied },
      ],
      toServer(),
      env,
    )
    await playRound(world, [{ what: 'no get', id: 'storage.get', level: 'error', ...denied }], toServer(), env)
    // Both actions have one finding: the second run shows the second.
    await playRound(world, [{ what: 'no abort', id: 'storage.abort', level: 'warning', ...denied }], toServer(), env)
    assert.deepEqual([...store.store.objects.keys(), ...store.store.uploads.keys()], [], 'nothing is left of a check')
  })
})
