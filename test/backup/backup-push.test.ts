import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { finishBackup } from '../../src/backup/backup-finish.ts'
import { pushBackup } from '../../src/backup/backup-push.ts'
import { Intent } from '../../src/backup/intent.ts'
import type { WriteCodec } from '../../src/compression/codec.ts'
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { backupFolder, contentsKey, intentKey, partsPrefix, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { readIntent } from '../../src/walg/backup/intent-document.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { parseContents } from '../../src/walg/backup/backup-contents.ts'
import { WalReader } from '../../src/walg/wal/wal-reader.ts'
import { BackupServer, backup, bystanders, control, dataFiles, label, mainArchive } from './backup-server.ts'
import { manifest, pushOptions, segment, systemId } from './backup-server.ts'
import { damaged } from './damaged-pages.ts'
import { type ReadEntry, readTar, type ServerFile, serverTar } from './parts/tars.ts'
import { WatchedStorage } from './parts/watched-storage.ts'

const folder = backupFolder(backup)
const timeout = 20_000

/** A stored object, decoded. */
async function decode(storage: WatchedStorage, codec: WriteCodec, key: string): Promise<Buffer> {
  const decoder = codec.decoder()
  decoder.end(storage.peek(key) ?? assert.fail(`there is no ${key}`))
  const pieces: Buffer[] = []
  for await (const piece of decoder) pieces.push(Buffer.from(piece as Uint8Array))
  return Buffer.concat(pieces)
}

/** The entries of every tar of the backup, by its name. */
async function readTars(storage: WatchedStorage, codec: WriteCodec): Promise<Map<string, ReadEntry[]>> {
  const tars = new Map<string, ReadEntry[]>()
  for (const key of storage.objects.keys()) {
    if (!key.startsWith(partsPrefix(backup))) continue
    tars.set(key.slice(partsPrefix(backup).length), await readTar(await decode(storage, codec, key)))
  }
  return tars
}

describe('a backup', { timeout }, () => {
  for (const [serverVersion, method] of [
    [140_023, 'zstd'],
    [170_010, 'zstd'],
    [150_018, 'lz4'],
    [180_004, 'brotli'],
    [160_014, 'none'],
  ] as const) {
    test(`of ${serverVersion} under ${method} holds what the server sent`, async () => {
      const server = new BackupServer({})
      server.serverVersion = serverVersion
      const codec = openWriteCodec(method)
      const storage = new WatchedStorage()
      const userData = { job: 'nightly' }
      const pushed = await pushBackup(pushOptions(server, storage, { codec, isPermanent: true, userData }))
      assert.equal(pushed.name, backup)
      assert.equal(server.open.size, 0)

      const tars = await readTars(storage, codec)
      assert.equal(pushed.parts, tars.size)
      const [labelName, controlName] = ['backup_label', 'pg_control'].map((base) => {
        return [...tars.keys()].find((name) => name.startsWith(`${base}.tar`)) ?? ''
      })
      const contents = (name = '') => tars.get(name)?.map((entry) => [entry.name, entry.content.toString()])
      assert.deepEqual(contents(labelName), [['backup_label', label.toString()]])
      assert.deepEqual(contents(controlName), [['/global/pg_control', control.toString()]])
      const parts = [...tars].filter(([name]) => name.startsWith('part_')).sort()
      assert.ok(parts.length >= 3, 'of several parts')
      const entries = parts.flatMap(([, part]) => part.map((entry) => [entry.name, entry.content.toString('latin1')]))
      const expected = dataFiles
        .slice(1, -1)
        .map(({ content = '', name }) => [`/${name as string}`, content.toString('latin1')])
      assert.deepEqual(entries.sort(), [['/', ''], ...expected].sort())

      const archive = new BackupArchive(storage)
      const sentinel = await archive.readSentinel(backup)
      assert.deepEqual({ ...sentinel, extra: {} }, pushed.sentinel)
      assert.deepEqual([sentinel.systemIdentifier, sentinel.isPermanent, sentinel.userData], [systemId, true, userData])
      assert.equal((await archive.readMetadata(backup))?.isPermanent, true)
      const found = await archive.readFilesMetadata(backup, sentinel)
      assert.equal(found.kind, 'found')
      const table = found.kind === 'found' ? found.metadata : assert.fail()
      const files = parts.flatMap(([, part]) => part.filter(({ type }) => type === 'file').map(({ name }) => name))
      assert.deepEqual([...table.files.keys()].sort(), files.sort())
      assert.equal(pushed.files, files.length)
      for (const [name, part] of parts) {
        const own = part.filter(({ type }) => type === 'file').map((entry) => entry.name)
        assert.deepEqual(table.tarFileSets.get(name) ?? [], own, name)
      }

      // Every object with its size and checksum, but for the documents about them.
      const stored = parseContents(storage.peek(contentsKey(backup)) ?? Buffer.alloc(0), 'walrx.json').objects
      const documents = ['walrx.json', 'metadata.json', 'files_metadata.json']
      const objects = [...storage.objects].flatMap(([key, { bytes }]) => {
        const name = key.slice(folder.length)
        if (!key.startsWith(folder) || documents.includes(name)) return []
        return [[name, { name, size: bytes.length, crc32c: crc32c(bytes) }] as const]
      })
      const byName = (all: Iterable<readonly [string, unknown]>) => [...all].sort(([a], [b]) => (a < b ? -1 : 1))
      assert.deepEqual(byName(stored), byName(objects))
      const manifestKey = [...stored.keys()].find((name) => name.startsWith('backup_manifest'))
      assert.ok((await decode(storage, codec, folder + (manifestKey ?? ''))).equals(manifest))
      assert.equal(storage.peek(intentKey(backup)), undefined)
    })
  }

  test('is announced before anything of it is stored, and has its sentinel after everything', async () => {
    const server = new BackupServer({})
    const storage = new WatchedStorage()
    await pushBackup(pushOptions(server, storage))
    const changes = storage.log.filter((line) => /^(put|putIfAbsent|delete) /.test(line))
    const at = (what: string) => changes.findIndex((line) => line.includes(what))
    assert.equal(changes[0], `putIfAbsent ${intentKey(backup)}`)
    assert.deepEqual(changes.slice(-2), [`put ${sentinelKey(backup)}`, `delete ${intentKey(backup)}`])
    const parts = changes.filter((line) => line.includes('/part_'))
    assert.ok(parts.length >= 3)
    const order = [
      ...[changes.lastIndexOf(parts.at(-1) ?? ''), at('backup_label.tar'), at('pg_control.tar'), at('walrx.json')],
      ...[at('metadata.json'), at('files_metadata.json'), changes.lastIndexOf(`put ${intentKey(backup)}`)],
    ]
    assert.deepEqual(
      order,
      [...order].sort((a, b) => a - b),
      changes.join('\n'),
    )
    assert.ok(at('backup_manifest') > 0 && at('backup_manifest') < at('walrx.json'))
    // The WAL is looked for when all else is there.
    const looked = storage.log.lastIndexOf(`list wal_005/${segment}`)
    assert.ok(looked > storage.log.findIndex((line) => line.includes('files_metadata.json')))
    assert.ok(looked < storage.log.indexOf(`put ${sentinelKey(backup)}`))
  })

  test('asks for no tablespace_map, and once more for one where a path is too long for a link', async () => {
    const map = Buffer.from('16385 /mnt/x\n')
    const space = (location: string) => {
      return { oid: 16385, location, pieces: [serverTar([{ name: 'PG_17', kind: 'directory' }])] }
    }
    const link: ServerFile = { name: 'pg_tblspc/16385', kind: 'symlink', linkTarget: '/mnt/x' }
    for (const [location, isAskedAgain] of [
      [`/${'a'.repeat(98)}`, false],
      [`/${'a'.repeat(99)}`, true],
      [`/${'ü'.repeat(49)}`, false],
      [`/${'ü'.repeat(49)}a`, true],
    ] as const) {
      const mapped: ServerFile = { name: 'tablespace_map', kind: 'file', content: map }
      const first = { archives: [space(location), mainArchive([...dataFiles, link])] }
      const second = { archives: [space(location), mainArchive([...dataFiles, mapped])] }
      const server = new BackupServer(first, second)
      const storage = new WatchedStorage()
      const options = pushOptions(server, storage)
      const { sentinel } = await pushBackup(options)
      assert.deepEqual(
        server.commands.map((command) => /TABLESPACE_MAP (\w+)/.exec(command)?.[1]),
        isAskedAgain ? ['false', 'true'] : ['false'],
      )
      assert.equal(server.open.size, 0)
      assert.deepEqual(sentinel.spec?.tablespaces, [{ oid: 16385, location, link: 'pg_tblspc/16385' }])
      const labels = (await readTars(storage, options.codec)).get('backup_label.tar.zst')
      assert.deepEqual(
        labels?.map(({ name }) => name),
        isAskedAgain ? ['tablespace_map', 'backup_label'] : ['backup_label'],
      )
      assert.equal(options.log.of('warn').length, isAskedAgain ? 1 : 0)
    }
  })

  test('keeps its data when its WAL does not come, says how it is completed, and is completed so', async () => {
    const storage = new WatchedStorage()
    const options = pushOptions(new BackupServer({}), storage)
    storage.objects.delete(`wal_005/${segment}.zst`)
    await assert.rejects(pushBackup(options), (error) => {
      assert.match((error as Error).message, new RegExp(`^segment ${segment} has not come into memory://test`))
      assert.match(
        hasCode(error, 'WALRX_BACKUP_INCOMPLETE') ? (error.hint ?? '') : '',
        /walrx backup-finish base_\w{24}$/,
      )
      return true
    })
    assert.equal(storage.peek(sentinelKey(backup)), undefined)
    storage.seed(`wal_005/${segment}.zst`, 'x')
    const { clock, log, signal } = options
    const content = (await readIntent(storage, backup)) ?? assert.fail('the intent has gone')
    assert.deepEqual(content.segments, [segment, segment])
    const intent = await Intent.adopt(storage, backup, content, clock)
    const archive = new WalReader(storage)
    await finishBackup({
      storage,
      archive,
      intent,
      segments: [segment],
      segmentSize: 16 * 1024 ** 2,
      walTimeoutMs: 0,
      clock,
      log,
      signal,
    })
    const sentinel = await new BackupArchive(storage).readSentinel(backup)
    assert.equal(sentinel.systemIdentifier, systemId)
    assert.equal(storage.peek(intentKey(backup)), undefined)
  })

  test('that exists already is refused, and nothing of it is touched', async () => {
    const storage = new WatchedStorage()
    await pushBackup(pushOptions(new BackupServer({}), storage))
    const before = new Map(storage.objects)
    const server = new BackupServer({})
    await assert.rejects(pushBackup(pushOptions(server, storage)), (error) => hasCode(error, 'WALRX_BACKUP_EXISTS'))
    assert.deepEqual([...storage.objects.keys()].sort(), [...before.keys()].sort())
    for (const [key, { bytes }] of before) assert.ok(storage.peek(key)?.equals(bytes), key)
    assert.equal(server.open.size, 0)
  })

  for (const [what, marker] of [
    ['cluster', '{"SystemIdentifier":1}'],
    ['segment size', `{"SystemIdentifier":${systemId},"WalSegmentSize":33554432}`],
  ] as const) {
    test(`of another ${what} is refused before the server is asked for it`, async () => {
      const storage = new WatchedStorage()
      const server = new BackupServer({})
      const options = pushOptions(server, storage)
      storage.seed('walrx_005/system.json', marker)
      await assert.rejects(pushBackup(options), (error) => hasCode(error, 'WALRX_OTHER_CLUSTER'))
      assert.deepEqual(server.commands, [])
      assert.equal(server.open.size, 0)
      assert.deepEqual([...storage.objects.keys()].sort(), bystanders)
    })
  }

  test('takes damaged pages where that was accepted, and reports them', async () => {
    const storage = new WatchedStorage()
    const server = new BackupServer({ end: damaged })
    const options = pushOptions(server, storage)
    const pushed = await pushBackup({ ...options, backup: { ...options.backup, acceptChecksumFailures: true } })
    assert.deepEqual(pushed.checksumFailures, [{ file: 'base/5/16384', blocks: [1], count: 1 }])
    assert.ok(storage.peek(sentinelKey(backup)))
    assert.equal(options.log.of('warn').length, 1)
  })
})
