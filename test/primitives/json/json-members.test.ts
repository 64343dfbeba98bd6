import assert from 'node:assert/strict'
import { isUtf8 } from 'node:buffer'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type JsonMember, JsonMembers } from '../../../src/primitives/json/json-members.ts'

/** What it gives for a document that comes in chunks which end at `cuts`; an Error for one that it refuses. */
function read(document: Buffer, cuts: readonly number[]): JsonMember[] | Error {
  const members: JsonMember[] = []
  const reader = new JsonMembers((member) => members.push(member))
  const ends = [...new Set(cuts.map((cut) => cut % (document.length + 1)))].sort((a, b) => a - b)
  try {
    for (const [index, end] of [...ends, document.length].entries()) {
      const chunk = Buffer.from(document.subarray(ends[index - 1] ?? 0, end))
      reader.write(chunk)
      chunk.fill(0)
    }
    reader.end()
  } catch (error) {
    return error as Error
  }
  return members
}

/** The members by JSON.parse; an Error where it or the kind of document is wrong. */
function parsed(text: string): JsonMember[] | Error {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    return error as Error
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return new Error('no object')
  return Object.entries(value).flatMap(([name, each]: [string, unknown]): JsonMember[] => {
    if (typeof each !== 'object' || each === null) return [{ name, key: undefined, value: each }]
    if (Array.isArray(each)) return each.map((item: unknown, index) => ({ name, key: index, value: item }))
    return Object.entries(each).map(([key, item]: [string, unknown]) => ({ name, key, value: item }))
  })
}

/** Names that JavaScript keeps in their order, and does not take for the prototype. */
const names = fc.string({ unit: 'grapheme' }).map((text) => `n${text}`)
const documents = fc.dictionary(names, fc.oneof(fc.jsonValue(), fc.dictionary(names, fc.jsonValue())), { maxKeys: 5 })
const cuts = fc.array(fc.nat(), { maxLength: 6 })
const seed = Number(process.env['WALRX_TEST_SEED'] ?? Date.now() % 2 ** 31)

describe(`a document of JSON in chunks (seed ${seed})`, () => {
  test('gives what JSON.parse gives', () => {
    fc.assert(
      fc.property(documents, cuts, fc.constantFrom(0, 2), (document, at, indent) => {
        const text = JSON.stringify(document, undefined, indent)
        // Names of inner objects may be of digits, which JavaScript sorts first.
        const sorted = (members: JsonMember[] | Error) => JSON.stringify(members).split('').sort().join('')
        const given = read(Buffer.from(text), at)
        assert.ok(Array.isArray(given), String(given))
        assert.equal(sorted(given), sorted(parsed(text)))
      }),
      { seed, numRuns: 500 },
    )
  })

  test('is refused with one wrong byte just where JSON.parse refuses it', () => {
    const byte = fc.constantFrom(...Buffer.from('{}[],:"\\ \n0x-'))
    fc.assert(
      fc.property(documents, cuts, fc.nat(), byte, fc.boolean(), (document, at, place, wrong, isAdded) => {
        const text = Buffer.from(JSON.stringify(document))
        const from = place % (text.length + 1)
        const changed = Buffer.concat([
          text.subarray(0, from),
          Buffer.from([wrong]),
          text.subarray(isAdded ? from : from + 1),
        ])
        const expected = isUtf8(changed) ? parsed(changed.toString()) : new Error('not UTF-8')
        assert.equal(read(changed, at) instanceof Error, expected instanceof Error, changed.toString())
      }),
      { seed, numRuns: 2000 },
    )
  })

  test('is refused without its end, and with more after it', () => {
    const document = Buffer.from('{"Files": {"a": {"b": [1, "}"]}}, "n": 12}')
    for (let length = 0; length < document.length; length++) {
      assert.ok(read(document.subarray(0, length), [3]) instanceof Error, String(length))
    }
    assert.ok(Array.isArray(read(Buffer.concat([document, Buffer.from(' \n')]), [3])))
    assert.ok(read(Buffer.concat([document, document]), [3]) instanceof Error)
  })
})
