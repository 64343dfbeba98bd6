import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { checkKey, checkPrefix, compareKeys, sortKeys } from '../../src/storage/keys.ts'
import { Random } from '../harness/random.ts'
import { inByteOrder, isCode } from './assertions.ts'

const isRefused = (error: unknown) => isCode(error, 'WALRX_INTERNAL')

describe('a key', () => {
  test('may be anything that a path below a root may be, up to 1,024 bytes', () => {
    for (const key of ['a', 'wal_005/x.zst', '...', '.a', 'a./b', '..a/b..', 'ü/😀', 'é'.repeat(512), '~ +%\\\n']) {
      checkKey(key)
    }
  })

  test('leads nowhere else', () => {
    const wrong = [
      '',
      '/',
      '/a',
      'a/',
      'a//b',
      '.',
      '..',
      './a',
      'a/..',
      'a/../b',
      'a/.',
      'a\0',
      '\udc00a',
      'a'.repeat(1025),
    ]
    for (const key of wrong) assert.throws(() => checkKey(key), isRefused, JSON.stringify(key))
  })

  test('begins with a prefix that may end anywhere', () => {
    for (const prefix of ['', 'a', 'a/', 'a/b', 'a/.', 'a/..', '.', 'wal_005/0000']) checkPrefix(prefix)
    for (const prefix of ['/', 'a//', '../', 'a/../', './x', '\0']) {
      assert.throws(() => checkPrefix(prefix), isRefused, prefix)
    }
  })
})

test('keys are ordered by the bytes of their UTF-8, with and without surrogates', () => {
  const seed = Date.now() % 1_000_000
  const random = new Random(seed)
  const letters = ['a', 'b', '/', '.', '-', 'é', '\ud7ff', '\ue000', '\uffff', '😀', '\u{10ffff}', '\u0001']
  const plain = letters.filter((letter) => letter.length === 1 && letter < '\ud800')
  for (const alphabet of [letters, plain]) {
    const keys = Array.from({ length: 500 }, () =>
      Array.from({ length: random.int(0, 4) }, () => random.pick(alphabet)).join(''),
    )
    assert.deepEqual(sortKeys([...keys]), inByteOrder(keys), `seed ${seed}`)
    for (let index = 1; index < keys.length; index++) {
      const [a, b] = [keys[index - 1]!, keys[index]!]
      const expected = Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)))
      assert.equal(Math.sign(compareKeys(a, b)), expected, `seed ${seed}: ${JSON.stringify([a, b])}`)
    }
  }
})
