/**
 * Writes encrypted OpenPGP messages in the shape of WAL-G's: packets with the session key, then integrity-protected data with one
 * packet of literal data, which is not compressed. Only the format differs: 'b' for binary where go-crypto writes 'u', by which
 * `gpg --decrypt` would take carriage returns out of the content.
 */
import { setImmediate } from 'node:timers/promises'
import { WalrxError } from '../../primitives/errors.ts'
import { release } from '../../primitives/release.ts'
import { packetHeader, packetTypes, PartialBody } from './packet-header.ts'
import { checkBytes, ProtectedWriter } from './protected-data.ts'
import { turnBytes, type SessionCipher } from './session-cipher.ts'

/** What encrypts one object. */
export interface SealedKey {
  readonly cipher: SessionCipher
  readonly key: Uint8Array
  /** The packets with the session key, one for each recipient. */
  readonly packets: Buffer
}

/** Format, no file name, no date. */
const literalHead = Buffer.from([0x62, 0, 0, 0, 0, 0])

/** Lengths have four bytes. */
const packetBytesMax = 0xffff_ffff

/** Encrypts content of unknown length, as {@link Crypter.encrypt} does. */
export async function* encryptMessage(
  content: AsyncIterable<Uint8Array>,
  { cipher, key, packets }: SealedKey,
): AsyncGenerator<Uint8Array, undefined> {
  const writer = new ProtectedWriter(cipher, key)
  const outer = new PartialBody(false)
  const literal = new PartialBody(true)
  yield Buffer.concat([packets, Buffer.from([0xc0 | packetTypes.encrypted])])
  yield* outer.push(Buffer.concat([Buffer.from([1]), writer.beginning]))
  yield* outer.push(writer.encrypt(Buffer.from([0xc0 | packetTypes.literal])))
  yield* throughBoth(literalHead)
  let turn = 0
  for await (const piece of content) {
    for (let at = 0; at < piece.length; at += turnBytes) {
      const slice = piece.subarray(at, at + turnBytes)
      yield* throughBoth(slice)
      turn += slice.length
      if (turn < turnBytes) continue
      turn = 0
      await setImmediate()
    }
  }
  yield* outer.push(writer.encrypt(literal.end()))
  yield* outer.push(writer.end())
  yield outer.end()

  function* throughBoth(bytes: Uint8Array): Generator<Buffer, undefined> {
    for (const part of literal.push(bytes)) {
      const encrypted = writer.encrypt(part)
      yield* outer.push(encrypted)
      release(encrypted)
    }
  }
}

/**
 * Encrypts `buffer[0, length)` inside its own buffer, as {@link Crypter.encryptInPlace} does. What is encrypted is written one
 * slice after what is read, so that nothing is overwritten before it is read.
 */
export async function encryptMessageInPlace(
  buffer: Buffer,
  length: number,
  { cipher, key, packets }: SealedKey,
): Promise<number> {
  const writer = new ProtectedWriter(cipher, key)
  const literal = Buffer.concat([packetHeader(packetTypes.literal, literalHead.length + length), literalHead])
  const bodyBytes = 1 + writer.beginning.length + literal.length + length + checkBytes
  if (bodyBytes > packetBytesMax) {
    throw new WalrxError('WALRX_INTERNAL', `${length} bytes are too many to be encrypted in one buffer`)
  }
  const head = packetHeader(packetTypes.encrypted, bodyBytes)
  let waiting: Buffer = Buffer.concat([packets, head, Buffer.from([1]), writer.beginning, writer.encrypt(literal)])
  let written = 0
  const write = (next: Buffer) => {
    written += waiting.copy(buffer, written)
    release(waiting)
    waiting = next
  }
  for (let at = 0; at < length; at += turnBytes) {
    write(writer.encrypt(buffer.subarray(at, Math.min(length, at + turnBytes))))
    if (at + turnBytes < length) await setImmediate()
  }
  write(writer.end())
  write(Buffer.alloc(0))
  return written
}
