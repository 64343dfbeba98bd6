/** Where tablespaces go. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { parseMappings, placeTablespaces } from '../../../src/restore/backup/tablespaces.ts'

// barman #95, pg_hardstorage #50
describe('the mappings of one option', () => {
  for (const [text, expected] of [
    ['/a=/b', [['/a', '/b']]],
    [
      '/a=/b,/c=/d,',
      [
        ['/a', '/b'],
        ['/c', '/d'],
      ],
    ],
    ['/a,b=/c d', [['/a,b', '/c d']]],
    [
      '/a=/b,c,/d=/e',
      [
        ['/a', '/b,c'],
        ['/d', '/e'],
      ],
    ],
    ['/a,/b=/c', [['/a,/b', '/c']]],
    ['/a=/b,/c', [['/a', '/b,/c']]],
    ['/a=/b\\,/c\\=d', [['/a', '/b,/c=d']]],
    ['/a\\=b=/c\\\\', [['/a=b', '/c\\']]],
    ['/it\'s "here"/=/there//', [['/it\'s "here"', '/there']]],
    ['', []],
  ] as const)
    test(`${text} are ${expected.length}`, () => assert.deepEqual(parseMappings(text), expected))

  for (const text of ['/a', '/a=', 'a=/b', '/a=b', '/a=/b=/c', '/a=/b,c=/d'])
    test(`${text} are refused`, () => {
      assert.throws(
        () => parseMappings(text),
        (error) => hasCode(error, 'WALRX_USAGE'),
      )
    })
})

describe('a tablespace', () => {
  const spec = (basePrefix: string, ...locations: string[]) => ({
    basePrefix,
    tablespaces: locations.map((location, index) => ({ oid: index + 1, location, link: `pg_tblspc/${index + 1}` })),
  })
  const places = (...args: Parameters<typeof placeTablespaces>) =>
    placeTablespaces(...args).map((each) => each.location)

  test('goes where it was, or where it is mapped to', () => {
    const at = spec('/data', '/ts/a', '/ts/b,c', '/database')
    const mappings = [['/ts/b,c', '/new']] as const
    assert.deepEqual(places(at, mappings, '/restored'), ['/ts/a', '/new', '/database'])
  })

  test("that was inside the original's data directory goes inside the restored one", () => {
    assert.deepEqual(places(spec('/data/', '/data/ts/a', '/data/b/'), [['/data/b', '/b']], '/restored'), [
      '/restored/ts/a',
      '/b',
    ])
    for (const unknown of ['', '/']) assert.deepEqual(places(spec(unknown, '/data/ts'), [], '/restored'), ['/data/ts'])
  })

  test('has a directory of its own', () => {
    const at = spec('/data', '/ts/a', '/ts/b')
    for (const [place, user] of [
      ['/ts/b', 'tablespace 1'],
      ['/restored/', 'the data directory'],
      ['/restored/pg_tblspc/1', "the server's own files"],
      ['/restored/base/x', "the server's own files"],
      ['/wal/.', 'the WAL (--waldir)'],
    ] as const)
      assert.throws(
        () => places(at, [['/ts/a', place]], '/restored', '/wal'),
        (error: Error) => hasCode(error, 'WALRX_USAGE') && error.message.endsWith(`, which is for ${user}`),
        place,
      )
    assert.deepEqual(places(at, [['/ts/a', '/ts/b/a']], '/restored', '/wal'), ['/ts/b/a', '/ts/b'])
  })

  test('is mapped once', () => {
    const at = spec('/data', '/ts/a')
    const twice = [
      ['/ts/a', '/b'],
      ['/ts/a', '/c'],
    ] as const
    assert.throws(
      () => places(at, twice, '/restored'),
      (error: Error) => /maps \/ts\/a to \/b and to \/c/.test(error.message),
    )
    assert.deepEqual(places(at, [twice[0], twice[0]], '/restored'), ['/b'])
  })
})
