/** What `sodium-native` does, and src/crypto/libsodium/ relies on. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { cp, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { describe, test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { cannotLoad, loadSodium } from '../../../src/crypto/libsodium/sodium.ts'
import { randomBytesOf } from '../../harness/made/codec-streams.ts'
import { keyOf, tags } from '../../harness/made/secretstreams.ts'

const sodium = await loadSodium()
const content = randomBytesOf(1, 8192)

function openPush() {
  const state = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
  const header = Buffer.alloc(24)
  sodium.crypto_secretstream_xchacha20poly1305_init_push(state, header, keyOf(1))
  return { state, header }
}

function openPull(header: Buffer) {
  const state = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, keyOf(1))
  return state
}

/** An encrypted message and the header of its stream. */
function message(tag: number = tags.message, bytes = content) {
  const { header, state } = openPush()
  const chunk = Buffer.alloc(bytes.length + 17)
  assert.equal(sodium.crypto_secretstream_xchacha20poly1305_push(state, chunk, bytes, null, tag), chunk.length)
  return { header, chunk }
}

describe('a message', () => {
  test('comes back with its tag, and with the number of its bytes', () => {
    for (const value of Object.values(tags)) {
      for (const bytes of [content, Buffer.alloc(0)]) {
        const { chunk, header } = message(value, bytes)
        const target = Buffer.alloc(bytes.length)
        const tag = Buffer.alloc(1)
        const state = openPull(header)
        assert.equal(sodium.crypto_secretstream_xchacha20poly1305_pull(state, target, tag, chunk, null), bytes.length)
        assert.ok(target.equals(bytes))
        assert.equal(tag[0], value)
      }
    }
  })

  test('that is not authentic throws, and changes neither target nor state', () => {
    const { chunk, header } = message()
    const target = Buffer.alloc(content.length, 9)
    const state = openPull(header)
    const before = Buffer.from(state)
    const tag = Buffer.alloc(1)
    chunk.writeUInt8(chunk.readUInt8(100) ^ 1, 100)
    const pull = () => sodium.crypto_secretstream_xchacha20poly1305_pull(state, target, tag, chunk, null)
    assert.throws(pull, /pull failed/)
    assert.ok(target.every((byte) => byte === 9))
    assert.ok(state.equals(before))
    chunk.writeUInt8(chunk.readUInt8(100) ^ 1, 100)
    assert.equal(pull(), content.length)
  })

  test('of fewer than 17 bytes throws', () => {
    const state = openPull(message().header)
    for (const length of [0, 16]) {
      const chunk = Buffer.alloc(length)
      assert.throws(() =>
        sodium.crypto_secretstream_xchacha20poly1305_pull(state, Buffer.alloc(0), Buffer.alloc(1), chunk, null),
      )
    }
  })

  test('can be encrypted and decrypted at its own place', () => {
    const memory = Buffer.alloc(content.length + 17)
    const own = memory.subarray(1, 1 + content.length)
    content.copy(own)
    const { header, state } = openPush()
    sodium.crypto_secretstream_xchacha20poly1305_push(state, memory, own, null, tags.message)
    assert.ok(!own.equals(content))
    sodium.crypto_secretstream_xchacha20poly1305_pull(openPull(header), own, Buffer.alloc(1), memory, null)
    assert.ok(own.equals(content))
  })

  test('in memory that is shared between threads is encrypted, or no length is returned', () => {
    const { header, state } = openPush()
    const shared = Buffer.from(new SharedArrayBuffer(content.length + 17))
    const written = sodium.crypto_secretstream_xchacha20poly1305_push(state, shared, content, null, tags.message)
    if (written === undefined) return
    assert.equal(written, shared.length)
    const target = Buffer.alloc(content.length)
    const chunk = Buffer.from(shared)
    sodium.crypto_secretstream_xchacha20poly1305_pull(openPull(header), target, Buffer.alloc(1), chunk, null)
    assert.ok(target.equals(content))
  })
})

describe('memory of sodium_malloc', () => {
  test('holds a key, is no part of a pool, and can be zeroed', () => {
    const key = sodium.sodium_malloc(32)
    assert.equal(key.length, 32)
    assert.equal(key.byteOffset, 0)
    assert.equal(key.buffer.byteLength, 32)
    keyOf(1).copy(key)
    const { chunk, header } = message()
    const state = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
    const target = Buffer.alloc(content.length)
    sodium.crypto_secretstream_xchacha20poly1305_pull(state, target, Buffer.alloc(1), chunk, null)
    assert.ok(target.equals(content))
    sodium.sodium_memzero(key)
    assert.ok(key.every((byte) => byte === 0))
    sodium.sodium_memzero(Buffer.alloc(0))
  })
})

test('libsodium works in a worker thread beside the main one', async () => {
  const { chunk, header } = message()
  const program = `
    const { parentPort, workerData } = require('node:worker_threads')
    const sodium = require('sodium-native')
    const [key, header, chunk] = workerData.map((bytes) => Buffer.from(bytes))
    const state = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
    const target = Buffer.alloc(chunk.length - 17)
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
    sodium.crypto_secretstream_xchacha20poly1305_pull(state, target, Buffer.alloc(1), chunk, null)
    parentPort.postMessage(target)
  `
  const worker = new Worker(program, { eval: true, workerData: [keyOf(1), header, chunk] })
  const [target] = (await once(worker, 'message')) as [Uint8Array]
  await worker.terminate()
  assert.ok(content.equals(target))
})

describe('a machine', () => {
  /** The error of the package with other files in place of its library. */
  async function failureWith(change: (folder: string) => Promise<void>): Promise<Error> {
    const root = await mkdtemp(join(tmpdir(), 'walrx-sodium-'))
    try {
      const { resolve } = createRequire(import.meta.url)
      const package_ = dirname(resolve('sodium-native/package.json'))
      const folder = join(root, 'node_modules/sodium-native')
      await mkdir(folder, { recursive: true })
      for (const file of ['package.json', 'index.js', 'binding.js']) await cp(join(package_, file), join(folder, file))
      for (const name of [
        'require-addon',
        'which-runtime',
        'bare-addon-resolve',
        'bare-module-resolve',
        'bare-semver',
      ]) {
        await cp(join(package_, '..', name), join(root, 'node_modules', name), { recursive: true })
      }
      await change(folder)
      createRequire(join(root, 'none.js'))('sodium-native')
    } catch (error) {
      return error as Error
    } finally {
      await rm(root, { recursive: true, force: true })
    }
    throw new Error('it was loaded')
  }

  const machine = `${process.platform}-${process.arch}`

  test('for which there is no library is named in one line, with what to do', async () => {
    const error = cannotLoad(await failureWith(async () => {}))
    assert.equal(error.code, 'WALRX_KEY_UNAVAILABLE')
    assert.equal(error.message, `libsodium cannot be loaded on ${machine}: sodium-native has no library for it`)
    assert.match(error.hint ?? '', /glibc/)
  })

  test('whose library does not load is named in one line, with the reason', async () => {
    const failure = await failureWith(async (folder) => {
      const prebuilds = join(folder, 'prebuilds', machine)
      await mkdir(prebuilds, { recursive: true })
      await writeFile(join(prebuilds, 'sodium-native.node'), 'no library')
      assert.deepEqual(await readdir(prebuilds), ['sodium-native.node'])
    })
    const error = cannotLoad(failure)
    assert.equal(error.code, 'WALRX_KEY_UNAVAILABLE')
    assert.ok(error.message.startsWith(`libsodium cannot be loaded on ${machine}: `), error.message)
    assert.ok(error.message.includes('sodium-native.node'), error.message)
    assert.ok(!error.message.includes('\n'))
    assert.match(error.hint ?? '', /`npm ci`/)
  })
})
