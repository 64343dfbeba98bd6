/**
 * libsodium's secretstream (crypto_secretstream_xchacha20poly1305) in WAL-G's chunks (internal/crypto/libsodium, writer.go and
 * reader.go; docs/walg-format.md, 4.1): the crypter. src/crypto/libsodium/chunk-stream.ts has the chunks.
 *
 * Everything runs on the main thread, in turns of {@link turnBytes}. Segments of 16 MB that do not compress, two at a time
 * on two cores, Node 24.21: CPU-seconds per GB, MB/s, the 99th percentile of the time that a timer of 1 ms takes
 * (perf_hooks), and memory beside the segments' buffers. libsodium alone takes 0.64 for the same 8 kB again and again, and
 * 0.71 from one block of 16 MB to another:
 *
 * | turns of 64 kB                                             | 0.97 | 1090 | 1.14 ms | 35 kB |
 * | turns of 128 kB                                            | 0.94 | 1082 | 1.23 ms | 35 kB |
 * | turns of 256 kB, this                                      | 0.85 | 1189 | 1.42 ms | 35 kB |
 * | turns of 512 kB                                            | 0.86 | 1170 | 1.85 ms | 35 kB |
 * | turns of 1 MB                                              | 0.88 | 1143 | 2.37 ms | 35 kB |
 * | turns of 256 kB, all content moved to the buffer's end first | 0.92 | 1089 | 3.59 ms | 8 kB  |
 * | a worker thread, the buffer handed over and back           | 0.87 | 1144 | 1.46 ms | 18 MB |
 *
 * The worker thread wins nothing, takes more memory than encryption may add, and costs a chunk of a tail 75 to 130 µs where
 * this takes 6 (2 kB) to 66 (30 kB), for which commits wait. It would also need the key a second time, and buffers that
 * change owners: memory that threads share is closed to sodium-native on Node 22 (src/crypto/libsodium/sodium.ts), and
 * copying to and from such memory costs a third more CPU.
 *
 * Least of nine runs, CPU-seconds per GB: encryptInPlace 0.82, encrypt 0.83 of chunks of 256 kB and 0.92 of 64 kB; decrypt
 * 0.74 to 0.80 into memory that is used again, 0.83 to 0.88 into other memory, where libsodium alone takes 0.75. Blocks of
 * 256 kB, because the decoder that reads them makes a trip to the libuv pool for each: with zstd's on top an object costs
 * 2.8 in such blocks, 3.4 in those of 64 kB as a socket gives them, and 9.6 in chunks of 8 kB as they are encrypted; without
 * encryption 2.3. While 1 GB was decrypted and decoded, memory rose by 4 and 6 MB, without encryption by 5 and 19.
 */
import { setImmediate } from 'node:timers/promises'
import { WalrxError } from '../../primitives/errors.ts'
import type { Crypter, DecryptedPiece, DecryptOptions, EncryptOptions, Recognised } from '../crypter.ts'
import { chunkBytes, contentBytes, headerBytes, OpeningStream, overheadBytes, SealingStream } from './chunk-stream.ts'
import { ReadAhead, SealedBlock, turnBytes, wholeChunks } from './sealed-block.ts'
import { loadSodium, type Sodium } from './sodium.ts'

/**
 * A crypter by one key of libsodium.
 * @param key 32 bytes, in memory of {@link Sodium.sodium_malloc}; they must not change
 * @param label see {@link Crypter.label}
 * @throws WALRX_KEY_UNAVAILABLE without libsodium
 */
export async function secretstreamCrypter(key: Buffer, label: string): Promise<Crypter> {
  return new Secretstream(await loadSodium(), key, label)
}

class Secretstream implements Crypter {
  readonly method = 'libsodium'
  readonly canDecrypt = true
  readonly headBytes = headerBytes + chunkBytes
  readonly label: string
  readonly #sodium: Sodium
  readonly #key: Buffer

  constructor(sodium: Sodium, key: Buffer, label: string) {
    this.#sodium = sodium
    this.#key = key
    this.label = label
  }

  /** An object has no mark: the key opens it when its first chunk is authentic. */
  recognise(head: Buffer): Promise<Recognised> {
    const chunk = head.subarray(headerBytes, headerBytes + chunkBytes)
    if (chunk.length < overheadBytes) return Promise.resolve('other key')
    const stream = OpeningStream.begin(this.#sodium, this.#key, head.subarray(0, headerBytes))
    try {
      const tag = stream.open(chunk, Buffer.allocUnsafe(chunk.length - overheadBytes))
      return Promise.resolve(tag === undefined ? 'other key' : 'opens')
    } finally {
      stream.close()
    }
  }

  peek(head: Buffer): Buffer | undefined {
    const content = head.subarray(headerBytes + 1, headerBytes + 1 + contentBytes)
    if (content.length === 0) return undefined
    const stream = OpeningStream.begin(this.#sodium, this.#key, head.subarray(0, headerBytes))
    try {
      return stream.peek(content)
    } finally {
      stream.close()
    }
  }

  async *decrypt(
    stored: AsyncIterable<Uint8Array>,
    { reusesChunks = false }: DecryptOptions = {},
  ): AsyncGenerator<Uint8Array, undefined> {
    const begin = (header: Uint8Array) => OpeningStream.begin(this.#sodium, this.#key, header)
    const decryption = new Decryption(begin, reusesChunks ? (last) => last : undefined)
    try {
      for await (const piece of stored) yield* decryption.take(piece)
      yield* decryption.finish()
    } finally {
      decryption.close()
    }
  }

  handOver(head: Buffer): Uint8Array<ArrayBuffer> {
    const stream = OpeningStream.begin(this.#sodium, this.#key, head.subarray(0, headerBytes))
    try {
      return stream.handOver()
    } finally {
      stream.close()
    }
  }

  async *encrypt(
    content: AsyncIterable<Uint8Array>,
    { reusesChunks = false }: EncryptOptions = {},
  ): AsyncGenerator<Uint8Array, undefined> {
    const stream = new SealingStream(this.#sodium, this.#key)
    try {
      const block = new SealedBlock(stream, reusesChunks)
      const rest = Buffer.allocUnsafeSlow(contentBytes)
      let kept = 0
      for await (const piece of content) {
        let at = 0
        for (let whole = wholeChunks(kept, piece.length); whole > 0; whole = wholeChunks(kept, piece.length - at)) {
          if (!block.fits(whole * chunkBytes)) yield block.take()
          block.makeRoom(whole * chunkBytes)
          for (let left = whole; left > 0; left--) {
            const message = piece.subarray(at, at + contentBytes - kept)
            at += message.length
            if (kept > 0) rest.set(message, kept)
            block.seal(kept > 0 ? rest : message, false)
            kept = 0
          }
          if (!reusesChunks) yield block.take()
          else if (whole * contentBytes === turnBytes) await setImmediate()
        }
        rest.set(piece.subarray(at), kept)
        kept += piece.length - at
      }
      if (!block.fits(kept + overheadBytes)) yield block.take()
      block.makeRoom(kept + overheadBytes)
      block.seal(rest.subarray(0, kept), true)
      yield block.take()
    } finally {
      stream.close()
    }
  }

  async encryptInPlace(buffer: Buffer, length: number): Promise<number> {
    const stream = new SealingStream(this.#sodium, this.#key)
    try {
      const ahead = new ReadAhead(buffer, length)
      let written = headerBytes
      ahead.read(written)
      stream.header.copy(buffer)
      for (let at = 0, isLast = false; !isLast; at += contentBytes) {
        const count = Math.min(contentBytes, length - at)
        isLast = count < contentBytes
        ahead.read(Math.max(at + count, written + count + overheadBytes))
        written += stream.seal(ahead.chunk(at, count), buffer, written, isLast)
        if (!isLast && (at + contentBytes) % turnBytes === 0) await setImmediate()
      }
      return written
    } finally {
      stream.close()
    }
  }
}

/**
 * Decrypts an object whose key another thread has: see {@link Crypter.handOver}. The pieces are freed by who reads them.
 * @param handed what opens the object; it is zeroed when this ends, however much was read
 * @throws as {@link Crypter.decrypt}; WALRX_KEY_UNAVAILABLE without libsodium
 */
export async function* decryptHandedOver(
  handed: Uint8Array,
  stored: AsyncIterable<Uint8Array>,
): AsyncGenerator<DecryptedPiece, undefined> {
  const spare: Buffer[] = []
  const freed = (bytes: Uint8Array): DecryptedPiece => ({
    bytes,
    free: () => void spare.push(Buffer.from(bytes.buffer as ArrayBuffer)),
  })
  let decryption: Decryption | undefined
  try {
    const sodium = await loadSodium()
    decryption = new Decryption(
      () => OpeningStream.resume(sodium, handed),
      () => spare.pop() ?? Buffer.allocUnsafeSlow(turnBytes),
    )
    for await (const piece of stored) for (const bytes of decryption.take(piece)) yield freed(bytes)
    for (const bytes of decryption.finish()) yield freed(bytes)
  } finally {
    decryption?.close()
    handed.fill(0)
  }
}

/** One object while it is decrypted: pieces of any length in, content in blocks of {@link turnBytes} out. */
class Decryption {
  readonly #begin: (header: Uint8Array) => OpeningStream
  readonly #nextRoom: ((last: Buffer) => Buffer) | undefined
  #stream: OpeningStream | undefined
  /** The beginning of a header or chunk whose end has not come. */
  readonly #part = Buffer.allocUnsafeSlow(chunkBytes)
  #partBytes = 0
  #output: Buffer = Buffer.alloc(0)
  #outputBytes = 0
  /** Where the next chunk begins in the object. */
  #offset = 0
  #isFinal = false

  /**
   * @param nextRoom the memory for content of which {@link turnBytes} are full, or that which comes after it; by default each
   * gets its own
   */
  constructor(begin: (header: Uint8Array) => OpeningStream, nextRoom?: (last: Buffer) => Buffer) {
    this.#begin = begin
    this.#nextRoom = nextRoom
  }

  /** Takes the next bytes of the object. @throws WALRX_OBJECT_DAMAGED */
  *take(piece: Uint8Array): Generator<Uint8Array, undefined> {
    for (let at = 0; at < piece.length;) {
      const wanted = this.#stream ? chunkBytes : headerBytes
      let whole = piece.subarray(at, at + wanted)
      at += whole.length
      if (this.#partBytes > 0 || whole.length < wanted) {
        const rest = whole.subarray(0, wanted - this.#partBytes)
        at -= whole.length - rest.length
        this.#part.set(rest, this.#partBytes)
        this.#partBytes += rest.length
        if (this.#partBytes < wanted) return
        this.#partBytes = 0
        whole = this.#part.subarray(0, wanted)
      }
      if (this.#stream) yield* this.#open(this.#stream, whole, piece.length - at)
      else this.#start(whole)
    }
  }

  /** The object has ended. @throws WALRX_OBJECT_DAMAGED */
  *finish(): Generator<Uint8Array, undefined> {
    if (this.#stream && this.#partBytes >= overheadBytes) {
      yield* this.#open(this.#stream, this.#part.subarray(0, this.#partBytes), 0)
    } else {
      this.#offset += this.#partBytes
    }
    if (!this.#isFinal) {
      throw damaged(`the encrypted object is incomplete: it ends after ${this.#offset} bytes without its final chunk`)
    }
    if (this.#outputBytes > 0) yield this.#output.subarray(0, this.#outputBytes)
  }

  close(): void {
    this.#stream?.close()
  }

  #start(header: Uint8Array): void {
    this.#stream = this.#begin(header)
    this.#offset = headerBytes
  }

  /** @param more bytes that are known to follow */
  *#open(stream: OpeningStream, chunk: Uint8Array, more: number): Generator<Uint8Array, undefined> {
    const count = chunk.length - overheadBytes
    if (this.#outputBytes + count > this.#output.length) {
      if (this.#outputBytes > 0) yield this.#output.subarray(0, this.#outputBytes)
      this.#outputBytes = 0
      this.#makeRoom(count + more)
    }
    const target = this.#output.subarray(this.#outputBytes, this.#outputBytes + count)
    const tag = stream.open(chunk, target)
    if (tag === undefined) {
      throw damaged(
        `the chunk of ${chunk.length} bytes at byte ${this.#offset} of the encrypted object is not authentic`,
      )
    }
    if (chunk.length === chunkBytes && tag === 'final') {
      throw damaged(`the encrypted object has its end in a full chunk, at byte ${this.#offset}`)
    }
    this.#outputBytes += count
    this.#offset += chunk.length
    this.#isFinal = tag === 'final'
  }

  /** @param expected content that is at hand; a small object gets no more memory than that */
  #makeRoom(expected: number): void {
    if (this.#nextRoom && this.#output.length === turnBytes) {
      this.#output = this.#nextRoom(this.#output)
      return
    }
    const isFirst = this.#output.length === 0
    const chunks = Math.min(turnBytes / contentBytes, Math.max(1, Math.ceil(expected / contentBytes)))
    this.#output = Buffer.allocUnsafeSlow(isFirst ? chunks * contentBytes : turnBytes)
  }
}

function damaged(message: string): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', message)
}
