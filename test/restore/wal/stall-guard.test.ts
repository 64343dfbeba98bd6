import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { openWriteCodec } from '../../../src/compression/codecs.ts'
import { openKeyring } from '../../../src/config/open-keyring.ts'
import { loadSettings } from '../../../src/config/load.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import type { Crypter } from '../../../src/crypto/crypter.ts'
import { type LogFields, silentLog } from '../../../src/observe/log.ts'
import { hasCode } from '../../../src/primitives/errors.ts'
import { StoredWriter } from '../../../src/walg/stored/stored-writer.ts'
import { makeSegment } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { testKey, testKeyring } from '../../harness/store/test-keys.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
import { fetchOnce } from './fetch-once.ts'

const name = '000000010000000000000005'

let directory: string
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walrx-stall-'))
})
after(() => rm(directory, { recursive: true }))

/** An archive that was written with the key, and is read by this keyring. */
async function archiveReadBy(keyring: Keyring | undefined): Promise<MemoryStorage> {
  const writer = new MemoryStorage({ keyring: testKeyring('key') })
  writer.seed(
    `wal_005/${name}.zst`,
    await new StoredWriter(writer, openWriteCodec('zstd')).encodeCopy(makeSegment(name)),
  )
  return new MemoryStorage({ objects: writer.objects, ...(keyring && { keyring }) })
}

/** Fetches with a key that comes when the first attempt was given up, and returns what the log said of that. */
async function said(keyring: Keyring, come: () => void): Promise<string[]> {
  const storage = await archiveReadBy(keyring)
  const warnings: string[] = []
  const warn = (_: string, fields?: LogFields) => {
    warnings.push(String((fields?.['error'] as Error).message))
    come()
  }
  const outcome = await fetchOnce({
    ...{ storage, name, dest: join(directory, 'out'), dataDir: directory },
    ...{ retryTimeoutMs: 60_000, clock: new FastClock(50), log: { ...silentLog, warn } },
  })
  assert.equal(outcome, 'delivered')
  assert.equal(storage.openBodies, 0)
  return warnings
}

test('the key command that is slow is named, and not the storage; the next attempt has its answer', async () => {
  const { promise, resolve } = Promise.withResolvers<Crypter>()
  let loads = 0
  const load = async () => {
    loads++
    return { writing: await promise, reading: [] }
  }
  const key = await testKey('key')
  const warnings = await said(new Keyring({ load, source: 'WALRX_KEY_COMMAND' }), () => resolve(key))
  assert.deepEqual([warnings, loads], [['WALRX_KEY_COMMAND has given no key for 30 s'], 1])
})

test('the service that is slow to open an object is named', async () => {
  const key = await testKey('key')
  const answer = Promise.withResolvers<undefined>()
  const slow: Crypter = {
    ...{ method: key.method, label: 'WALG_CSE_KMS_ID=alias/x', headBytes: key.headBytes, canDecrypt: true },
    recognise: async (head) => (await answer.promise, key.recognise(head)),
    encrypt: (content) => key.encrypt(content),
    encryptInPlace: (buffer, length) => key.encryptInPlace(buffer, length),
    decrypt: (stored) => key.decrypt(stored),
  }
  const keyring = new Keyring({ load: () => Promise.resolve({ writing: slow, reading: [] }) })
  const warnings = await said(keyring, () => answer.resolve(undefined))
  assert.deepEqual(warnings, ['WALG_CSE_KMS_ID=alias/x has given no key for 30 s'])
})

test('a key that never comes ends the fetch with its own reason', async () => {
  const storage = await archiveReadBy(new Keyring({ load: () => new Promise(() => {}), source: 'WALRX_KEY_COMMAND' }))
  const options = { storage, name, dest: join(directory, 'out'), dataDir: directory, clock: new FastClock(50) }
  for (const isStandby of [true, false]) {
    await assert.rejects(fetchOnce({ ...options, retryTimeoutMs: 10_000, isStandby }), (error) => {
      assert.ok(hasCode(error, 'WALRX_KEY_UNAVAILABLE'), String(error))
      assert.match(error.message, /^WALRX_KEY_COMMAND has given no key for (5|10) s/)
      return true
    })
  }
})

test('the settings say what is waited for', async () => {
  for (const [environment, source] of [
    [{ WALRX_KEY_COMMAND: 'sleep 0.1; exit 1', WALG_LIBSODIUM_KEY: 'x'.repeat(32) }, 'WALRX_KEY_COMMAND'],
    [{ WALG_LIBSODIUM_KEY_PATH: '/none' }, 'WALG_LIBSODIUM_KEY_PATH'],
    [{ WALRX_READ_KEY_PATH: '/none' }, 'WALRX_READ_KEY_PATH'],
  ] as const) {
    const { values } = await loadSettings({ command: 'wal-fetch', flags: new Map(), environment })
    const keyring = openKeyring(values)
    assert.equal(keyring?.waitsFor, undefined)
    const keys = keyring?.keys()
    assert.equal(keyring?.waitsFor, source)
    await assert.rejects(keys ?? Promise.resolve())
    assert.equal(keyring?.waitsFor, undefined)
  }
})
