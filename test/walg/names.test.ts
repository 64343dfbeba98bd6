import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseWalKey, walKey } from '../../src/walg/names.ts'

const segment = '00000001000000000000000A'
const names = [segment, `${segment}.partial`, '00000002.history', `${segment}.00000028.backup`]

test('a key is the name and the extension, without a dot where there is none', () => {
  assert.equal(walKey(segment, 'zst'), `wal_005/${segment}.zst`)
  assert.equal(walKey(segment, ''), `wal_005/${segment}`)
})

test('every name in every extension comes back from its key', () => {
  for (const name of names) {
    for (const extension of ['zst', 'lz4', 'br', 'lzma', 'gz', 'lzo', '']) {
      const parsed = parseWalKey(walKey(name, extension))
      assert.equal(parsed?.name, name)
      assert.equal(parsed.extension, extension)
    }
  }
})

test('a trailing dot, which old WAL-G leaves, is no extension', () => {
  for (const name of names) {
    assert.deepEqual(parseWalKey(`wal_005/${name}.`), { ...parseWalKey(`wal_005/${name}`), extension: '' })
  }
})

test('the four kinds are distinguished', () => {
  assert.deepEqual(
    names.map((name) => parseWalKey(walKey(name, 'lz4'))?.kind),
    ['segment', 'partial', 'history', 'backup'],
  )
})

test('a bare partial is a partial, never a segment', () => {
  assert.equal(parseWalKey(`wal_005/${segment}.partial`)?.kind, 'partial')
})

test('metadata, delta maps, temporary files and strangers are no WAL files', () => {
  const strangers = [
    `wal_005/${segment}.json`,
    `wal_005/${segment.slice(0, 23)}.json`,
    `wal_005/${segment}_delta`,
    `wal_005/${segment}_delta.zst`,
    `wal_005/${segment}.zst.tmp.20251121T030405Z-0123456789abcdef`,
    `wal_005/${segment}.tmp.4711`,
    `wal_005/${segment}..`,
    `wal_005/${segment}.zst.`,
    `wal_005/${segment}.zst.lz4`,
    `wal_005/${segment}.xyz`,
    `wal_005/${segment}.__proto__`,
    `wal_005/${segment.toLowerCase()}.zst`,
    `wal_005/${segment}0.zst`,
    `wal_005/sub/${segment}.zst`,
    `basebackups_005/${segment}.zst`,
    `${segment}.zst`,
    'wal_005/',
    'wal_005/.zst',
    '',
  ]
  for (const key of strangers) assert.equal(parseWalKey(key), undefined, key)
})

test('no text makes the parser fail, and what it accepts it can name again', () => {
  const part = fc.oneof(
    fc.constantFrom(...names, '.', 'zst', 'lzo', 'json', '_delta', '/', '0'),
    fc.string({ maxLength: 4 }),
  )
  fc.assert(
    fc.property(fc.array(part, { maxLength: 5 }), (parts) => {
      const key = `wal_005/${parts.join('')}`
      const parsed = parseWalKey(key)
      if (parsed) assert.ok([walKey(parsed.name, parsed.extension), `wal_005/${parsed.name}.`].includes(key))
    }),
  )
})
