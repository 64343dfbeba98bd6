import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { hasCode } from '../../../src/primitives/errors.ts'
import { formatJson, jsonBigint, type JsonValue, parseJson } from '../../../src/primitives/json/json.ts'

const system = 7455523487659893045n

test('a system identifier survives, as a bare number', () => {
  const text = `{"SystemIdentifier":${system},"LSN":50331688}`
  const value = parseJson(text) as { [key: string]: JsonValue }
  assert.equal(value.SystemIdentifier, system)
  assert.equal(value.LSN, 50_331_688)
  assert.equal(formatJson(value), text)
})

test('any whole number of 64 bits survives in both directions', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }), (number) => {
      assert.equal(formatJson({ number }), `{"number":${number}}`)
      const { number: parsed } = parseJson(`{"number":${number}}`) as { number: JsonValue }
      assert.equal(jsonBigint(parsed), number)
      assert.equal(typeof parsed, number >= -(2n ** 53n) + 1n && number <= 2n ** 53n - 1n ? 'number' : 'bigint')
    }),
  )
})

test('everything else is what JSON says it is', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const text = JSON.stringify(value)
      assert.equal(formatJson(parseJson(text)), text)
    }),
  )
})

test('a key of __proto__ is an ordinary key', () => {
  const value = parseJson('{"__proto__":{"polluted":true},"a":1}') as { [key: string]: JsonValue }
  assert.equal(Object.getPrototypeOf(value), Object.prototype)
  assert.equal((value as { polluted?: unknown }).polluted, undefined)
  assert.ok(Object.hasOwn(value, '__proto__'))
})

test('only whole numbers count as a bigint', () => {
  for (const text of ['"7455523487659893045"', '7.4e18', '1.5', 'null', 'true', '[1]', '{}']) {
    assert.equal(jsonBigint(parseJson(text)), undefined, text)
  }
  assert.equal(jsonBigint(undefined), undefined)
})

test('numbers that have lost something already are not written', () => {
  for (const number of [NaN, Infinity, -Infinity, 2 ** 53, 7455523487659893045]) {
    assert.throws(
      () => formatJson({ number }),
      (error) => hasCode(error, 'WALRX_INTERNAL'),
      String(number),
    )
  }
  assert.equal(formatJson({ number: 2 ** 53 - 1, huge: 1e21 }), '{"number":9007199254740991,"huge":1e+21}')
})

test('what is no JSON is refused', () => {
  for (const text of ['', '{', '{"a":01}', "{'a':1}", '{"a":1,}', 'NaN', '{"a":1}x']) {
    assert.throws(() => parseJson(text), SyntaxError, text)
  }
})
