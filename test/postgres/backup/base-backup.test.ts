import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { hasCode } from '../../../src/primitives/errors.ts'
import { BackupChecksumError, type BaseBackup, startBaseBackup } from '../../../src/postgres/backup/base-backup.ts'
import type { BaseBackupOptions } from '../../../src/postgres/backup/base-backup-command.ts'
import { FakeSocket } from '../fake-socket.ts'
import {
  commandComplete,
  copyDone,
  message,
  noticeMessage,
  parameterStatus,
  readyForQuery,
} from '../server-messages.ts'
import {
  closing,
  copies,
  copyData,
  copyOut,
  fakeSession,
  opening,
  RecordingSink,
  type ScriptedArchive,
  scriptedEnd,
  scriptedStart,
  severeMessage,
  warningMessage,
} from './scripted-backup.ts'

const options: BaseBackupOptions = {
  label: 'x',
  checkpoint: 'fast',
  verifyChecksums: true,
  manifestChecksums: 'CRC32C',
}
const versions = { plain: 140_023, tagged: 170_010 } as const
const framings = ['plain', 'tagged'] as const
type Framing = (typeof framings)[number]

const archives: readonly ScriptedArchive[] = [
  { oid: 16385, location: '/mnt/fast', pieces: [Buffer.alloc(512, 1), Buffer.alloc(300, 2)] },
  { oid: null, location: null, pieces: [Buffer.alloc(700, 3), Buffer.alloc(1, 4), Buffer.alloc(2048, 5)] },
]
const manifest = [Buffer.from('{ "PostgreSQL-'), Buffer.from('Backup-Manifest-Version": 1}\n')]

function wholeScript(framing: Framing): Buffer[] {
  return [...opening(archives), ...copies(framing, archives, manifest), ...closing]
}

/** Begins a backup with `script` as the server's answer, in reads of these lengths, the last one repeated. */
async function begin(
  framing: Framing,
  script: readonly Uint8Array[],
  lengths: readonly number[] = [Infinity],
  more: Partial<BaseBackupOptions> = {},
): Promise<{ backup: BaseBackup; socket: FakeSocket }> {
  const socket = new FakeSocket()
  const starting = startBaseBackup(fakeSession(socket, versions[framing]), { ...options, ...more })
  const bytes = Buffer.concat(script)
  for (let at = 0, read = 0; at < bytes.length; read++) {
    const length = lengths[Math.min(read, lengths.length - 1)] ?? Infinity
    socket.deliver(bytes.subarray(at, Math.min(bytes.length, at + length)))
    at += length
  }
  return { backup: await starting, socket }
}

function assertWhole(framing: Framing, sink: RecordingSink): void {
  assert.deepEqual(
    sink.archives.map(({ tablespace }) => tablespace),
    [
      { oid: 16385, location: '/mnt/fast', sizeBytes: 8192 },
      { oid: undefined, location: '', sizeBytes: 8192 },
    ],
  )
  const closingBlocks = framing === 'plain' ? [Buffer.alloc(1024)] : []
  archives.forEach(({ pieces }, index) => {
    const received = Buffer.concat(sink.archives[index]?.pieces ?? [])
    assert.ok(received.equals(Buffer.concat([...pieces, ...closingBlocks])), `archive ${index}`)
  })
  assert.ok(sink.hasManifest)
  assert.equal(Buffer.concat(sink.manifest).toString(), Buffer.concat(manifest).toString())
}

for (const framing of framings) {
  describe(`a base backup in ${framing} framing`, () => {
    test('is the same however the bytes are cut into reads, and whenever the sink wants to wait', async () => {
      const readLengths = fc.array(fc.integer({ min: 1, max: 900 }), { minLength: 1, maxLength: 60 })
      await fc.assert(
        fc.asyncProperty(readLengths, fc.infiniteStream(fc.constantFrom(0, 1, 2)), async (lengths, waits) => {
          const { backup } = await begin(framing, wholeScript(framing), lengths)
          assert.equal(backup.start.startLsn, scriptedStart)
          assert.equal(backup.start.timeline, 1)
          const sink = new RecordingSink()
          let waiting = false
          sink.answer = () => {
            assert.equal(waiting, false, 'delivered while the sink was busy')
            const wait = waits.next().value as number
            if (wait === 0) return
            waiting = true
            const done = () => void (waiting = false)
            return wait === 1 ? Promise.resolve().then(done) : new Promise<void>(setImmediate).then(done)
          }
          const end = await backup.receive(sink)
          assert.deepEqual(end, { endLsn: scriptedEnd, endTimeline: 1, checksumFailures: [] })
          assertWhole(framing, sink)
        }),
        { numRuns: 60 },
      )
    })

    test('is read byte by byte', async () => {
      const { backup } = await begin(framing, wholeScript(framing), [1])
      const sink = new RecordingSink()
      await backup.receive(sink)
      assertWhole(framing, sink)
      if (framing === 'tagged') assert.deepEqual(sink.progress, [1024, 1024])
    })

    test('delivers nothing before it is received, and pauses the socket', async () => {
      const { backup, socket } = await begin(framing, wholeScript(framing))
      assert.equal(socket.isPaused, true)
      const sink = new RecordingSink()
      await backup.receive(sink)
      assertWhole(framing, sink)
      await assert.rejects(backup.receive(sink), (error) => hasCode(error, 'WALRX_INTERNAL'))
    })

    test('hands on notices of all phases, each of them once, and passes over settings that change', async () => {
      const script = [noticeMessage('before'), ...opening(archives), noticeMessage('between')]
      const parts = copies(framing, archives, manifest)
      script.push(...parts.flatMap((part) => [part, parameterStatus('in_hot_standby', 'off'), noticeMessage('amid')]))
      const { backup } = await begin(framing, [...script, ...closing])
      const sink = new RecordingSink()
      await backup.receive(sink)
      assertWhole(framing, sink)
      const texts = sink.notices.map(({ M }) => M)
      assert.deepEqual(texts, ['before', 'between', 'amid'])
    })

    test('ends with what the sink throws, at once or later, and calls it no more', async () => {
      for (let call = 1; call <= 6; call++) {
        for (const isLater of [false, true]) {
          const { backup, socket } = await begin(framing, wholeScript(framing), [100])
          const sink = new RecordingSink()
          const refusal = new Error(`call ${call}`)
          sink.answer = () => {
            if (sink.calls < call) return
            if (isLater) return new Promise<void>(setImmediate).then(() => Promise.reject(refusal))
            throw refusal
          }
          await assert.rejects(backup.receive(sink), refusal)
          assert.equal(sink.calls, call)
          assert.equal(socket.isDestroyed, true)
        }
      }
    })

    test('ends with the signal, also while the sink is busy', async () => {
      const { backup, socket } = await begin(framing, wholeScript(framing), [100])
      const sink = new RecordingSink()
      const aborter = new AbortController()
      sink.answer = () => {
        if (sink.calls < 3) return
        aborter.abort(new Error('enough'))
        return new Promise<void>(setImmediate)
      }
      await assert.rejects(backup.receive(sink, aborter.signal), /enough/)
      await new Promise(setImmediate)
      assert.equal(sink.calls, 3)
      assert.equal(socket.isDestroyed, true)
      const aborted = new FakeSocket()
      const starting = startBaseBackup(fakeSession(aborted, versions[framing]), options, aborter.signal)
      await assert.rejects(starting, /enough/)
      const late = new AbortController()
      const waiting = startBaseBackup(fakeSession(aborted, versions[framing]), options, late.signal)
      late.abort(new Error('too slow'))
      await assert.rejects(waiting, /too slow/)
      assert.equal(aborted.isDestroyed, true)
    })

    test('a connection that breaks anywhere is a lost one, and no end', async () => {
      const script = wholeScript(framing)
      for (let count = 0; count < script.length; count++) {
        const socket = new FakeSocket()
        const receiving = startBaseBackup(fakeSession(socket, versions[framing]), options).then((backup) =>
          backup.receive(new RecordingSink()),
        )
        for (const part of script.slice(0, count)) socket.deliver(part)
        // All delivered bytes are taken before the end is reported.
        for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
        socket.close(new Error('read ECONNRESET'))
        await assert.rejects(receiving, (error) => hasCode(error, 'WALRX_CONNECTION_LOST'), `after message ${count}`)
      }
    })

    test('a server that errs ends it by SQLSTATE, before, during and after the archives', async () => {
      const parts = copies(framing, archives, manifest)
      const scripts = [
        [severeMessage('ERROR', '55000', 'kein WAL'), readyForQuery],
        [...opening(archives), ...parts.slice(0, 2), severeMessage('ERROR', '58P01', 'weg'), readyForQuery],
        [...opening(archives), ...parts, ...closing.slice(0, 3), severeMessage('ERROR', '55000', 'x'), readyForQuery],
      ]
      for (const [index, script] of scripts.entries()) {
        const running = begin(framing, script).then(({ backup }) => backup.receive(new RecordingSink()))
        await assert.rejects(running, (error) => hasCode(error, 'WALRX_SERVER_ERROR'), `script ${index}`)
      }
      const dying = [...opening(archives), ...parts.slice(0, 2), severeMessage('FATAL', '57P01', 'Ende')]
      const { backup } = await begin(framing, dying)
      await assert.rejects(backup.receive(new RecordingSink()), (error) => hasCode(error, 'WALRX_CONNECTION_LOST'))
    })

    const damage = [
      ...opening(archives),
      ...copies(framing, archives, manifest).flatMap((part, index) =>
        index === 1
          ? [part, warningMessage('in file "./base/5/1259", block 7: calculated AB and expected 12')]
          : [part],
      ),
      ...closing.slice(0, 3),
      severeMessage('ERROR', 'XX001', 'checksum verification failure during base backup'),
      readyForQuery,
    ]
    const failures = [{ file: 'base/5/1259', blocks: [7], count: 1 }]

    test('damaged pages fail it after the last byte, by file and block', async () => {
      const { backup } = await begin(framing, damage)
      const sink = new RecordingSink()
      const error = await backup.receive(sink).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      assert.ok(error instanceof BackupChecksumError && hasCode(error, 'WALRX_BACKUP_CHECKSUM'))
      assert.deepEqual(error.failures, failures)
      assert.match(error.message, /base\/5\/1259 \(block 7\)/)
      assertWhole(framing, sink)
    })

    test('damaged pages are reported but no failure where that was requested', async () => {
      const { backup } = await begin(framing, damage, [50], { acceptChecksumFailures: true })
      const end = await backup.receive(new RecordingSink())
      assert.deepEqual(end, { endLsn: scriptedEnd, endTimeline: 1, checksumFailures: failures })
    })

    test('corruption that the server meets before the end is no checksum failure, and never accepted', async () => {
      const parts = copies(framing, archives, manifest)
      const script = [...opening(archives), ...parts, severeMessage('ERROR', 'XX001', 'invalid page'), readyForQuery]
      const { backup } = await begin(framing, script, [Infinity], { acceptChecksumFailures: true })
      await assert.rejects(backup.receive(new RecordingSink()), (error) => hasCode(error, 'WALRX_SERVER_ERROR'))
    })

    test('what the protocol does not allow is refused', async () => {
      const start = opening(archives)
      const parts = copies(framing, archives, manifest)
      const scripts: Record<string, readonly Buffer[]> = {
        'no position': [commandComplete('SELECT')],
        'CopyData before the archives': [copyData('d', 'x')],
        'an end without a position': [...start, ...parts, commandComplete('BASE_BACKUP'), readyForQuery],
        'a second backup': [...start, ...parts, ...closing.slice(0, 3), copyOut],
        'an unknown message': [...start, message('?')],
        'an endless message': [...start, Buffer.from([0x4e, 0x7f, 0, 0, 0])],
        'an impossible length': [...start, Buffer.from([0x64, 0, 0, 0, 3])],
        'a third archive of 14': [...start, ...parts, copyOut],
        'a tablespace that was not announced': [...start, copyOut, copyData('n4711.tar\0/x\0')],
        'data of no archive': [...start, copyOut, copyData('dx')],
        'a message of an unknown kind': [...start, copyOut, copyData('x', 'y')],
        'a name without an end': [...start, copyOut, copyData('n', 'a'.repeat(5000))],
        'two manifests': [...start, copyOut, copyData('m'), copyData('m')],
        'an archive after the manifest': [...start, copyOut, copyData('m'), copyData('nbase.tar\0\0')],
      }
      const taggedOnly = /announced|no archive|unknown kind|name without|manifest/
      for (const [what, script] of Object.entries(scripts)) {
        if (framing === 'plain' ? taggedOnly.test(what) : /of 14/.test(what)) continue
        const running = begin(framing, script).then(({ backup }) => backup.receive(new RecordingSink()))
        await assert.rejects(running, (error) => hasCode(error, 'WALRX_PROTOCOL'), what)
      }
    })
  })
}

test('a backup that asked for no manifest ends without one', async () => {
  for (const framing of framings) {
    const parts = copies(framing, archives, manifest)
    // Of 14 the last COPY OUT is left out, of later ones everything from `m` on but the CopyDone.
    const bodies = framing === 'plain' ? parts.slice(0, -4) : [...parts.slice(0, -4), copyDone]
    const { backup } = await begin(framing, [...opening(archives), ...bodies, ...closing])
    const sink = new RecordingSink()
    await backup.receive(sink)
    assert.equal(sink.hasManifest, false)
    assert.equal(sink.archives.length, 2)
  }
})

test('reads that were under way when the socket was paused are kept in order', async () => {
  const script = Buffer.concat(wholeScript('tagged'))
  const socket = new FakeSocket()
  const starting = startBaseBackup(fakeSession(socket, versions.tagged), options)
  socket.deliver(script.subarray(0, 400))
  const backup = await starting
  for (let at = 400; at < script.length; at += 333) socket.deliverThoughPaused(script.subarray(at, at + 333))
  const sink = new RecordingSink()
  sink.answer = () => new Promise<void>(setImmediate)
  await backup.receive(sink)
  assertWhole('tagged', sink)
  await backup.close()
  await backup.close()
})
