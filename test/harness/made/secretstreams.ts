/** Objects of libsodium's secretstream: made and opened by walrx, by libsodium alone, and by Python's PyNaCl. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import type { Crypter } from '../../../src/crypto/crypter.ts'
import { encryptSlack } from '../../../src/crypto/crypter.ts'
import { Keyring } from '../../../src/crypto/keyring.ts'
import { secretstreamCrypter } from '../../../src/crypto/libsodium/secretstream.ts'
import { loadSodium } from '../../../src/crypto/libsodium/sodium.ts'

/** Tags of libsodium's chunks. */
export const tags = { message: 0, push: 1, rekey: 2, final: 3 } as const

/** Bytes of a header, of the content of a full chunk, and of a full chunk. */
export const headerBytes = 24
export const contentBytes = 8192
export const chunkBytes = contentBytes + 17

/** A key, the same for the same number. */
export const keyOf = (seed: number): Buffer => Buffer.alloc(32, seed + 1)

/** A crypter by {@link keyOf}. */
export const crypterOf = (seed: number): Promise<Crypter> => secretstreamCrypter(keyOf(seed), `KEY_${seed}`)

/** Chunks as a source, a turn of the loop apart. */
export async function* sourceOf(chunks: Iterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for (const chunk of chunks) yield await Promise.resolve(chunk)
}

/** Everything that comes out, copied at once: what is handed out may be used again. */
export async function collect(output: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of output) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

/** A copy of the content, encrypted inside a buffer of the promised size. */
export async function encryptCopy(crypter: Crypter, content: Uint8Array): Promise<Buffer> {
  const buffer = Buffer.alloc(content.length + encryptSlack(content.length), 0xee)
  buffer.set(content)
  return buffer.subarray(0, await crypter.encryptInPlace(buffer, content.length))
}

/** Where each chunk of an object of this many bytes begins and ends. */
export function chunkRanges(objectBytes: number): { start: number; end: number }[] {
  const ranges = []
  for (let start = headerBytes; start < objectBytes; start += chunkBytes) {
    ranges.push({ start, end: Math.min(objectBytes, start + chunkBytes) })
  }
  return ranges
}

/** An object of any chunks, by libsodium alone: also such as nobody writes. */
export async function objectOfChunks(
  key: Buffer,
  chunks: readonly { readonly content: Buffer; readonly tag: number }[],
): Promise<Buffer> {
  const sodium = await loadSodium()
  const state = Buffer.alloc(sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES)
  const header = Buffer.alloc(headerBytes)
  sodium.crypto_secretstream_xchacha20poly1305_init_push(state, header, key)
  const sealed = chunks.map(({ content, tag }) => {
    const chunk = Buffer.alloc(content.length + 17)
    sodium.crypto_secretstream_xchacha20poly1305_push(state, chunk, content, null, tag)
    return chunk
  })
  return Buffer.concat([header, ...sealed])
}

/** Why PyNaCl cannot be asked; false where it can. */
export const withoutPynacl: string | false =
  spawnSync('python3', ['-c', 'import nacl.bindings']).status === 0 ? false : 'python3 has no PyNaCl'

/** Both programs read objects or contents, each after its length (u32), and answer in the same form. */
const frames = `
import struct, sys
from nacl import bindings as b
key, data, at = bytes.fromhex(sys.argv[1]), sys.stdin.buffer.read(), 0
def frames():
    at = 0
    while at < len(data):
        (length,) = struct.unpack_from('<I', data, at)
        yield data[at + 4:at + 4 + length]
        at += 4 + length
def answer(parts):
    out = b''.join(parts)
    sys.stdout.buffer.write(struct.pack('<I', len(out)) + out)
`

const encryptProgram = `${frames}
for content in frames():
    state = b.crypto_secretstream_xchacha20poly1305_state()
    out = [b.crypto_secretstream_xchacha20poly1305_init_push(state, key)]
    for at in range(0, len(content) // 8192 * 8192 + 1, 8192):
        piece = content[at:at + 8192]
        last = len(piece) < 8192
        out.append(b.crypto_secretstream_xchacha20poly1305_push(state, piece, tag=3 if last else 0))
    answer(out)
`

const decryptProgram = `${frames}
for stored in frames():
    state = b.crypto_secretstream_xchacha20poly1305_state()
    b.crypto_secretstream_xchacha20poly1305_init_pull(state, stored[:24], key)
    at, tag, out = 24, 0, []
    while at < len(stored):
        assert tag == 0, 'a chunk follows after tag %d' % tag
        chunk = stored[at:at + 8209]
        piece, tag = b.crypto_secretstream_xchacha20poly1305_pull(state, chunk)
        assert (len(piece) < 8192) == (tag == 3), 'tag %d at byte %d of %d' % (tag, at, len(stored))
        out.append(piece)
        at += len(chunk)
    assert tag == 3, 'no final chunk'
    answer(out)
`

/** The objects that PyNaCl makes of contents. */
export const pynaclEncrypt = (key: Buffer, contents: readonly Buffer[]): Buffer[] =>
  pynacl(encryptProgram, key, contents)

/** The contents of objects by PyNaCl, which requires WAL-G's framing, exactly. */
export const pynaclDecrypt = (key: Buffer, objects: readonly Buffer[]): Buffer[] => pynacl(decryptProgram, key, objects)

function pynacl(program: string, key: Buffer, inputs: readonly Buffer[]): Buffer[] {
  const input = Buffer.concat(inputs.flatMap((each) => [lengthOf(each), each]))
  const output = execFileSync('python3', ['-c', program, key.toString('hex')], { input, maxBuffer: 1 << 28 })
  const outputs: Buffer[] = []
  for (let at = 0; at < output.length;) {
    const start = at + 4
    at = start + output.readUInt32LE(at)
    outputs.push(output.subarray(start, at))
  }
  return outputs
}

function lengthOf(bytes: Buffer): Buffer {
  const length = Buffer.alloc(4)
  length.writeUInt32LE(bytes.length)
  return length
}

/** A keyring of one key to write with, and others to read with: see {@link crypterOf}. */
export function keyringOf(seeds: readonly number[], acceptsUnencrypted = false): Keyring {
  return new Keyring({
    acceptsUnencrypted,
    async load() {
      const [writing, ...reading] = await Promise.all(seeds.map((seed) => crypterOf(seed)))
      assert.ok(writing)
      return { writing, reading }
    },
  })
}
