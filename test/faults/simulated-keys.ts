/** Keys of simulated archives: libsodium is loaded before any schedule begins, because a virtual clock waits for no file. */
import { createHash } from 'node:crypto'
import { Keyring } from '../../src/crypto/keyring.ts'
import type { Crypter } from '../../src/crypto/crypter.ts'
import { loadSodium, type Sodium } from '../../src/crypto/libsodium/sodium.ts'
import type { MemoryObject } from '../harness/store/memory-storage.ts'
import { testKey } from '../harness/store/test-keys.ts'

const sodium: Sodium = await loadSodium()
const names = ['old', 'new'] as const
const keys = names.map((name) => createHash('sha256').update(name).digest())
const crypters = await Promise.all(names.map(testKey))

/** A keyring of two keys, that writes with the first or the second. */
export function simulatedKeyring(writing: 0 | 1): Keyring {
  const [first, second] = (writing === 0 ? crypters : crypters.toReversed()) as [Crypter, Crypter]
  return new Keyring({ load: () => Promise.resolve({ writing: first, reading: [second] }) })
}

const headerBytes = 24
const chunkBytes = 8192 + 17

/** The content of an encrypted object; empty for one that is damaged: at once, by libsodium itself. */
export function decrypted(stored: Buffer): Buffer {
  for (const key of keys) {
    const content = decryptedWith(stored, key)
    if (content) return content
  }
  return Buffer.alloc(0)
}

function decryptedWith(stored: Buffer, key: Buffer): Buffer | undefined {
  if (stored.length < headerBytes) return undefined
  const state = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, stored.subarray(0, headerBytes), key)
  const pieces: Buffer[] = []
  const tag = Buffer.alloc(1)
  for (let at = headerBytes; at < stored.length; at += chunkBytes) {
    const chunk = stored.subarray(at, at + chunkBytes)
    if (chunk.length < 17) return undefined
    const content = Buffer.alloc(chunk.length - 17)
    try {
      sodium.crypto_secretstream_xchacha20poly1305_pull(state, content, tag, chunk, null)
    } catch {
      return undefined
    }
    pieces.push(content)
  }
  return tag[0] === 3 ? Buffer.concat(pieces) : undefined
}

/** The objects of an encrypted archive as they are without encryption, each decrypted once. */
export class DecryptedObjects implements Pick<ReadonlyMap<string, MemoryObject>, 'get' | 'has' | 'keys'> {
  readonly #objects: ReadonlyMap<string, MemoryObject>
  readonly #known = new WeakMap<MemoryObject, MemoryObject>()

  constructor(objects: ReadonlyMap<string, MemoryObject>) {
    this.#objects = objects
  }

  get(key: string): MemoryObject | undefined {
    const object = this.#objects.get(key)
    return object && this.#open(key, object)
  }

  has(key: string): boolean {
    return this.#objects.has(key)
  }

  keys(): MapIterator<string> {
    return this.#objects.keys()
  }

  *[Symbol.iterator](): Generator<[string, MemoryObject], undefined> {
    for (const [key, object] of this.#objects) yield [key, this.#open(key, object)]
  }

  #open(key: string, object: MemoryObject): MemoryObject {
    // Segments, partials, histories and chunks are encrypted here; markers are not.
    if (!/^(wal_005|walrx_005\/(tail|partial))\//.test(key)) return object
    const known = this.#known.get(object) ?? { ...object, bytes: decrypted(object.bytes) }
    this.#known.set(object, known)
    return known
  }
}
