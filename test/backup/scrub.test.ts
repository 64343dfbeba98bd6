import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { scrub, type ScrubOptions, type ScrubResult } from '../../src/backup/scrub.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { copyData, copyOut, severeMessage, warningMessage } from '../postgres/backup/scripted-backup.ts'
import { commandComplete, copyDone, readyForQuery, rowDescription, rowMessage } from '../postgres/server-messages.ts'
import { BackupServer, type BackupScript, systemId } from './backup-server.ts'
import { RecordingLog } from './recording-log.ts'

const warning = (file: string, block: number) =>
  warningMessage(`checksum verification failed in file "./${file}", block ${block}: calculated A1B2 and expected C3D4`)
const total = (file: string, count: number) =>
  warningMessage(`file "./${file}" has a total of ${count} checksum verification failures`)
const damage = severeMessage('ERROR', 'XX001', 'checksum verification failure during base backup')

/** A server that reads and sends nothing, seen on 17: archives without a byte, and what it has read so far. */
class BlackholeServer extends BackupServer {
  /** Said between the archives and the end. */
  said: readonly Buffer[] = []
  end: readonly Buffer[] = [commandComplete('BASE_BACKUP')]

  override bytes(_script: BackupScript): Buffer {
    const progress = (bytes: number) => copyData('p', Buffer.from([0, 0, 0, 0, 0, 0, bytes >> 8, bytes & 0xff]))
    return Buffer.concat([
      ...[rowDescription, rowMessage('0/2000028', '1'), commandComplete('SELECT')],
      ...[
        rowDescription,
        rowMessage('16385', '/mnt/fast', '8'),
        rowMessage(null, null, '16'),
        commandComplete('SELECT'),
      ],
      copyOut,
      ...[copyData('n16385.tar\0/mnt/fast\0'), progress(8192), copyData('nbase.tar\0\0'), progress(20_000)],
      copyDone,
      ...this.said,
      ...[rowDescription, rowMessage('0/2000100', '1'), commandComplete('SELECT')],
      ...this.end,
      readyForQuery,
    ])
  }
}

function run(server: BackupServer, more: Partial<ScrubOptions> = {}) {
  const log = new RecordingLog()
  const progress: [number, number | undefined][] = []
  const result: Promise<ScrubResult> = scrub({
    server,
    checkpoint: 'fast',
    maxRateKb: undefined,
    log,
    signal: new AbortController().signal,
    onProgress: (done, all) => progress.push([done, all]),
    ...more,
  })
  return { log, progress, result }
}

describe('a scrub', { timeout: 120_000 }, () => {
  test('has the server read everything and send nothing, and reports how far it is', async () => {
    const server = new BlackholeServer()
    const { progress, result } = run(server)
    assert.deepEqual(await result, { host: 'fake:5432', systemId, bytes: 20_000, failures: [] })
    assert.deepEqual(progress, [
      [8192, 24 * 1024],
      [20_000, 24 * 1024],
    ])
    assert.deepEqual(server.commands, [
      `BASE_BACKUP (LABEL 'walrx scrub', PROGRESS true, CHECKPOINT 'fast', WAIT false, TARGET 'blackhole', ` +
        `VERIFY_CHECKSUMS true, MANIFEST 'no')`,
    ])
    assert.equal(server.open.size, 0)
  })

  test('asks for the checkpoint and the rate that it is given', async () => {
    const server = new BlackholeServer()
    await run(server, { checkpoint: 'spread', maxRateKb: 1000 }).result
    assert.match(server.commands[0] ?? '', /CHECKPOINT 'spread'.*MAX_RATE 1000/)
  })

  test('reports the damage that the server finds, and what it says of it', async () => {
    const server = new BlackholeServer()
    server.said = [
      ...[1, 7, 8, 9, 10].map((block) => warning('base/5/16384', block)),
      warningMessage('further checksum verification failures in file "./base/5/16384" will not be reported'),
      total('base/5/16384', 12),
      warning('global/1262', 0),
    ]
    server.end = [damage]
    const { log, result } = run(server)
    const { bytes, failures } = await result
    assert.equal(bytes, 20_000)
    assert.deepEqual(failures, [
      { file: 'base/5/16384', blocks: [1, 7, 8, 9, 10], count: 12 },
      { file: 'global/1262', blocks: [0], count: 1 },
    ])
    assert.equal(log.of('warn').length, server.said.length)
    assert.equal(server.open.size, 0)
  })

  test('refuses a server of before 15, and one without checksums, before anything is read', async () => {
    const old = new BlackholeServer()
    old.serverVersion = 140_023
    const bare = new BlackholeServer()
    bare.settings['data_checksums'] = 'off'
    for (const [server, message] of [
      [old, 'fake:5432 is too old: a scrub needs PostgreSQL 15 or later'],
      [bare, 'the pages of fake:5432 have no checksums to verify'],
    ] as const) {
      await assert.rejects(run(server).result, (error) => {
        assert.equal((error as Error).message, message)
        return hasCode(error, 'WALRX_SERVER_UNSUPPORTED')
      })
      assert.deepEqual([server.commands, server.open.size], [[], 0])
    }
  })

  test('fails with the server and with its connection, and takes neither for damage or for health', async () => {
    const refused = new BlackholeServer()
    refused.end = [severeMessage('ERROR', '42501', 'permission denied')]
    await assert.rejects(run(refused).result, (error) => hasCode(error, 'WALRX_NO_PRIVILEGE'))
    const whole = new BlackholeServer().bytes({}).length
    for (let breaksAfter = 0; breaksAfter < whole; breaksAfter += 29) {
      const server = new BlackholeServer({ breaksAfter, readBytes: 50 })
      await assert.rejects(run(server).result, (error) => hasCode(error, 'WALRX_CONNECTION_LOST'), `${breaksAfter}`)
      assert.equal(server.open.size, 0)
    }
  })

  test('ends by the signal, during the checkpoint and later', async () => {
    for (const atRead of [0, 1, 5]) {
      const stop = new AbortController()
      const server = new BlackholeServer({
        readBytes: 50,
        beforeRead: (at) => (at === atRead * 50 ? stop.abort(new Error('stopped by hand')) : undefined),
      })
      await assert.rejects(run(server, { signal: stop.signal }).result, { message: 'stopped by hand' })
      assert.equal(server.open.size, 0)
    }
  })
})
