/** Running codecs over whole buffers, data to run them over, and frames counted independently of `src`. */
import { execFileSync } from 'node:child_process'
import { createCipheriv } from 'node:crypto'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { type Codec, codecSlack, type SegmentEncoder, type WriteCodec } from '../../../src/compression/codec.ts'

/** Bytes that don't compress, the same for the same seed. */
export function randomBytesOf(seed: number, length: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeUInt32LE(seed >>> 0)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length))
}

/** Bytes much like WAL: records of 40 to 300 bytes, most of each repeated from record to record, some zero runs. */
export function walLikeBytes(seed: number, length: number): Buffer {
  const noise = randomBytesOf(seed, Math.ceil(length / 8) + 64)
  const data = Buffer.alloc(length)
  const record = Buffer.from(noise.subarray(0, 64))
  let at = 0
  for (let n = 0; at < length; n++) {
    noise.copy(record, 8, (n * 13) % (noise.length - 16), ((n * 13) % (noise.length - 16)) + 12)
    record.writeUInt32LE(n, 0)
    at += record.copy(data, at, 0, Math.min(record.length, length - at))
    at += 40 + ((n * 7) % 200)
  }
  return data
}

/** Cuts bytes into chunks of these lengths, over and over. */
export function* chunksOf(bytes: Uint8Array, ...lengths: number[]): Generator<Buffer> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  for (let at = 0, n = 0; at < buffer.length; n++) {
    const length = lengths[n % lengths.length] ?? buffer.length
    yield buffer.subarray(at, at + length)
    at += length
  }
}

/** Everything that comes out of the codec's encoder for these chunks. */
export async function encodeStream(codec: WriteCodec, chunks: Iterable<Uint8Array>): Promise<Buffer> {
  const output: Uint8Array[] = []
  await pipeline(Readable.from(chunks), codec.encoder(), async (source: AsyncIterable<Uint8Array>) => {
    for await (const chunk of source) output.push(chunk)
  })
  return Buffer.concat(output)
}

/** Everything that comes out of the codec's decoder, or its error. */
export async function decodeStream(codec: Codec, chunks: Iterable<Uint8Array>): Promise<Buffer> {
  const output: Uint8Array[] = []
  await pipeline(Readable.from(chunks), codec.decoder(), async (source: AsyncIterable<Uint8Array>) => {
    for await (const chunk of source) output.push(chunk)
  })
  return Buffer.concat(output)
}

/** The frame that the codec leaves in a copy of `data`; the copy has exactly the promised slack. */
export async function encodeCopy(codec: SegmentEncoder, data: Uint8Array): Promise<Buffer> {
  const buffer = Buffer.alloc(data.length + codecSlack(data.length), 0xee)
  buffer.set(data)
  return buffer.subarray(0, await codec.encodeInPlace(buffer, data.length))
}

/** Where each zstd frame of `bytes` begins and ends, and what its header says. */
export function zstdFrames(bytes: Buffer): { start: number; end: number; hasChecksum: boolean; windowLog: number }[] {
  const frames = []
  for (let at = 0; at < bytes.length;) {
    const start = at
    if (bytes.readUInt32LE(at) !== 0xfd2fb528) throw new Error(`no zstd frame at ${at}`)
    const descriptor = bytes.readUInt8(at + 4)
    const single = (descriptor & 32) !== 0
    const windowLog = single ? 0 : 10 + (bytes.readUInt8(at + 5) >> 3)
    at += 5 + (single ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + [single ? 1 : 0, 2, 4, 8][descriptor >> 6]!
    for (let isLast = false; !isLast;) {
      const header = bytes.readUIntLE(at, 3)
      isLast = (header & 1) === 1
      at += 3 + (((header >> 1) & 3) === 1 ? 1 : header >> 3)
    }
    if (descriptor & 4) at += 4
    frames.push({ start, end: at, hasChecksum: (descriptor & 4) !== 0, windowLog })
  }
  return frames
}

/** The output of a command for this input; undefined when the command isn't installed. */
export function runTool(command: string, args: readonly string[], input: Uint8Array): Buffer | undefined {
  try {
    return execFileSync(command, args, { input, maxBuffer: 1 << 30, stdio: ['pipe', 'pipe', 'pipe'] })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
