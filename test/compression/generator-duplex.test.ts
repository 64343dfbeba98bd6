import assert from 'node:assert/strict'
import { once } from 'node:events'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { setImmediate } from 'node:timers/promises'
import { test } from 'node:test'
import { GeneratorDuplex } from '../../src/compression/generator-duplex.ts'

async function* copy(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  for await (const chunk of source) yield chunk
}

test('what goes in comes out, in order, with empty chunks left out', async () => {
  const words = ['one', '', 'two', 'three', '']
  const output: string[] = []
  await pipeline(Readable.from(words.map((word) => Buffer.from(word))), new GeneratorDuplex(copy), async (source) => {
    for await (const chunk of source as AsyncIterable<Buffer>) output.push(chunk.toString())
  })
  assert.equal(output.join(''), 'onetwothree')
})

test('no input is taken while nobody reads the output', async () => {
  let taken = 0
  function* source() {
    for (; taken < 1000; taken++) yield Buffer.alloc(256 * 1024)
  }
  const stream = new GeneratorDuplex(copy)
  const done = pipeline(Readable.from(source(), { highWaterMark: 1 }), stream).catch(() => undefined)
  for (let turn = 0; turn < 200; turn++) await setImmediate()
  assert.ok(taken <= 4, `${taken} chunks were taken`)
  stream.destroy()
  await done
})

test('an error of the generator ends the stream', async () => {
  const stream = new GeneratorDuplex(async function* (source): AsyncGenerator<Uint8Array, undefined> {
    for await (const chunk of source) {
      yield chunk
      throw new Error('broken')
    }
  })
  await assert.rejects(pipeline(Readable.from([Buffer.from('a'), Buffer.from('b')]), stream, drain), /broken/)
})

test('an error of the source comes out unchanged, and the generator cleans up', async () => {
  let isClean = false
  const failure = new Error('the store went away')
  async function* source() {
    yield Buffer.from('a')
    await setImmediate()
    throw failure
  }
  const stream = new GeneratorDuplex(async function* (input): AsyncGenerator<Uint8Array, undefined> {
    try {
      yield* copy(input)
    } finally {
      isClean = true
    }
  })
  await assert.rejects(pipeline(source(), stream, drain), (error) => error === failure)
  await setImmediate()
  assert.equal(isClean, true)
})

test('a reader that stops early ends the generator and frees the source', async () => {
  const freed: string[] = []
  async function* source() {
    try {
      for (;;) yield Buffer.alloc(100_000)
    } finally {
      freed.push('source')
    }
  }
  const stream = new GeneratorDuplex(async function* (input): AsyncGenerator<Uint8Array, undefined> {
    try {
      yield* copy(input)
    } finally {
      freed.push('generator')
    }
  })
  const done = pipeline(source(), stream).catch(() => undefined)
  for await (const chunk of stream) {
    void chunk
    break
  }
  await done
  await setImmediate()
  assert.deepEqual(freed.sort(), ['generator', 'source'])
})

test('a stream destroyed before anything was read closes', async () => {
  const stream = new GeneratorDuplex(copy)
  stream.destroy()
  await once(stream, 'close')
})

async function drain(source: AsyncIterable<unknown>): Promise<void> {
  for await (const chunk of source) void chunk
}
