/** Whatever is changed in an encrypted object is reported, and nothing comes out that its writer has not put in. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { chunksOf, randomBytesOf } from '../../harness/made/codec-streams.ts'
import {
  chunkRanges,
  contentBytes,
  crypterOf,
  encryptCopy,
  headerBytes,
  sourceOf,
} from '../../harness/made/secretstreams.ts'
import { Random } from '../../harness/random.ts'

const crypter = await crypterOf(1)

/** Short, of whole chunks, and longer than a block that is given out at a time. */
const contents = [0, 1, 5000, contentBytes, 3 * contentBytes, 3 * contentBytes + 700, 600_000].map((length) =>
  randomBytesOf(length + 1, length),
)

interface Original {
  readonly content: Buffer
  readonly object: Buffer
}

const originals: Original[] = []
for (const content of contents) originals.push({ content, object: await encryptCopy(crypter, content) })
/** Another object by the same key. */
const otherContent = randomBytesOf(77, 100_000)
const other: Original = { content: otherContent, object: await encryptCopy(crypter, otherContent) }

/** One byte to a megabyte. */
const drawLengths = (random: Random) =>
  Array.from({ length: 4 }, () => Math.ceil(2 ** (random.next() * 20)) + (random.chance(0.5) ? 8208 : 0))

/** Reads what was made of an object: it must be refused, and what came out before must be the object's own beginning. */
async function assertRefused(changed: Buffer, content: Buffer, how: string, random: Random): Promise<void> {
  const lengths = drawLengths(random)
  const source = () => sourceOf(chunksOf(changed, ...lengths))
  for (const reusesChunks of [false, true]) {
    const output = crypter.decrypt(source(), { reusesChunks })
    let bytes = 0
    const reading = (async () => {
      for await (const chunk of output) {
        assert.ok(
          content.subarray(bytes, bytes + chunk.length).equals(chunk),
          `${how}: other bytes came out at ${bytes}`,
        )
        bytes += chunk.length
      }
    })()
    await assert.rejects(
      reading,
      (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED'),
      `${how}, in pieces of ${lengths.join()}`,
    )
  }
}

/** Runs trials of one seed each, which is named when one fails. */
async function trials(count: number, run: (random: Random, original: Original, how: string) => Promise<void>) {
  for (let seed = 0; seed < count; seed++) {
    const random = new Random(seed)
    const original = random.pick(originals)
    await run(random, original, `seed ${seed}, object of ${original.object.length} bytes`)
  }
}

/** The object with its chunks in this order. */
function reordered({ object }: Original, order: readonly number[]): Buffer {
  const ranges = chunkRanges(object.length)
  const chunks = order.map((index) => object.subarray(ranges[index]?.start, ranges[index]?.end))
  return Buffer.concat([object.subarray(0, headerBytes), ...chunks])
}

/** Objects of this many chunks at least. */
const ofChunks = (count: number) => originals.filter(({ object }) => chunkRanges(object.length).length >= count)

describe('an encrypted object is refused', () => {
  test('with any bit changed', async () => {
    await trials(150, async (random, { content, object }, how) => {
      const changed = Buffer.from(object)
      const ranges = chunkRanges(object.length)
      const { end, start } = random.pick(ranges)
      // Anywhere in a chunk, in its tag, in its authentication, in the header.
      const at = random.pick([random.int(start, end - 1), start, random.int(end - 16, end - 1), random.int(0, 23)])
      const bit = random.int(0, 7)
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << bit), at)
      await assertRefused(changed, content, `${how}, bit ${bit} of byte ${at}`, random)
    })
  })

  test('cut at any byte of a small object', async () => {
    for (const { content, object } of originals.slice(0, 2)) {
      for (let cut = 0; cut < object.length; cut++) {
        await assertRefused(object.subarray(0, cut), content, `cut at ${cut}`, new Random(cut))
      }
    }
  })

  test('cut at the end of any chunk, around it, and anywhere', async () => {
    await trials(100, async (random, { content, object }, how) => {
      const border = random.pick([headerBytes, ...chunkRanges(object.length).map(({ end }) => end)])
      const around = border + random.pick([-17, -16, -1, 0, 1, 16, 17])
      const cut = Math.min(object.length - 1, random.chance(0.7) ? around : random.int(0, object.length - 1))
      await assertRefused(object.subarray(0, cut), content, `${how}, cut at ${cut}`, random)
    })
    for (const { content, object } of originals) {
      for (const { start } of chunkRanges(object.length)) {
        await assertRefused(object.subarray(0, start), content, `cut at the chunk at ${start}`, new Random(start))
      }
    }
  })

  test('with two chunks exchanged', async () => {
    for (let seed = 0; seed < 60; seed++) {
      const random = new Random(seed)
      const original = random.pick(ofChunks(2))
      const order = chunkRanges(original.object.length).map((_, index) => index)
      const left = random.int(0, order.length - 2)
      const right = random.int(left + 1, order.length - 1)
      order[left] = right
      order[right] = left
      await assertRefused(reordered(original, order), original.content, `seed ${seed}, ${left} and ${right}`, random)
    }
  })

  test('with a chunk repeated, at once or later, and with one left out', async () => {
    for (let seed = 0; seed < 60; seed++) {
      const random = new Random(seed)
      const original = random.pick(ofChunks(2))
      const order = chunkRanges(original.object.length).map((_, index) => index)
      const at = random.int(0, order.length - 1)
      const how = `seed ${seed}, chunk ${at} of ${order.length}`
      await assertRefused(reordered(original, order.toSpliced(at, 0, at)), original.content, how, random)
      await assertRefused(reordered(original, [...order, at]), original.content, how, random)
      await assertRefused(reordered(original, order.toSpliced(at, 1)), original.content, how, random)
    }
  })

  test('with bytes after its end: zeros, noise, itself, another object', async () => {
    await trials(60, async (random, { content, object }, how) => {
      const noise = randomBytesOf(random.int(0, 1000), random.int(1, 20_000))
      const tail = random.pick([Buffer.alloc(1), Buffer.alloc(random.int(1, 9000)), noise, object, other.object])
      await assertRefused(Buffer.concat([object, tail]), content, `${how}, and ${tail.length} bytes`, random)
    })
  })

  test('with bytes inserted or taken out', async () => {
    await trials(60, async (random, { content, object }, how) => {
      const at = random.int(0, object.length - 1)
      const count = random.int(1, Math.min(9000, object.length - at))
      const before = object.subarray(0, at)
      const inserted = Buffer.concat([before, randomBytesOf(random.int(0, 1000), count), object.subarray(at)])
      await assertRefused(inserted, content, `${how}, ${count} bytes in at ${at}`, random)
      const shorter = Buffer.concat([before, object.subarray(at + count)])
      await assertRefused(shorter, content, `${how}, ${count} bytes out at ${at}`, random)
    })
  })

  test('with chunks or the end of another object of the same key', async () => {
    const theirs = chunkRanges(other.object.length)
    await trials(60, async (random, { content, object }, how) => {
      const ours = random.pick(chunkRanges(object.length))
      const { end, start } = random.pick(theirs)
      const replaced = [object.subarray(0, ours.start), other.object.subarray(start, end), object.subarray(ours.end)]
      await assertRefused(Buffer.concat(replaced), content, `${how}, ${start} at ${ours.start}`, random)
      const spliced = Buffer.concat([object.subarray(0, ours.start), other.object.subarray(start)])
      await assertRefused(spliced, content, `${how}, ${start} from ${ours.start} on`, random)
    })
    for (const { content, object } of originals) {
      const beheaded = Buffer.concat([other.object.subarray(0, headerBytes), object.subarray(headerBytes)])
      await assertRefused(beheaded, content, 'with the header of another object', new Random(object.length))
    }
  })

  test('where it is no object at all', async () => {
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(17), Buffer.alloc(10_000), ...contents.slice(1)]) {
      await assertRefused(bytes, Buffer.alloc(0), `${bytes.length} bytes`, new Random(bytes.length))
    }
  })
})

test('objects that are not changed are read in the same trials', async () => {
  for (const [seed, { content, object }] of originals.entries()) {
    const random = new Random(seed)
    await assert.rejects(assertRefused(object, content, 'unchanged', random), /Missing expected rejection/)
  }
})
