import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { parseJson } from '../../../src/primitives/json/json.ts'
import { toLsn } from '../../../src/postgres/lsn.ts'
import { formatSentinel, isDelta, parseSentinel, type Sentinel } from '../../../src/walg/backup/sentinel.ts'
import { goldenBackups, goldenSentinel } from '../../harness/made/golden-backups.ts'

const key = 'basebackups_005/base_X_backup_stop_sentinel.json'
const parse = (text: string) => parseSentinel(Buffer.from(text), key)

/** A whole one, as a remote backup has it. */
const ours: Sentinel = {
  startLsn: toLsn(50331688n),
  delta: undefined,
  pgVersion: 170005,
  finishLsn: toLsn(50331984n),
  systemIdentifier: 7455523487659893045n,
  uncompressedSize: 31457280,
  compressedSize: 4400000,
  dataCatalogSize: 0,
  spec: { basePrefix: '/var/lib/postgresql/17/main', tablespaces: [] },
  userData: undefined,
  filesMetadataDisabled: false,
  version: 2,
  startTime: '2025-06-01T10:00:00.123457Z',
  finishTime: '2025-06-01T10:00:04.5Z',
  hostname: 'backup1',
  dataDir: '/var/lib/postgresql/17/main',
  isPermanent: false,
  extra: {},
}

describe('sentinels of the two tools', () => {
  for (const [archive, backup] of goldenBackups) {
    test(`${archive} ${backup} is written again as it was`, () => {
      const bytes = goldenSentinel(archive, backup)
      const written = formatSentinel(parseSentinel(bytes, key))
      // WAL-RUS puts base_prefix first in Spec; JSON is the same.
      if (archive.startsWith('walg')) assert.equal(written.toString(), bytes.toString())
      assert.deepEqual(parseJson(written.toString()), parseJson(bytes.toString()))
      assert.equal(written.length, bytes.length)
    })
  }

  test('a delta names its parent', () => {
    const bytes = goldenSentinel('walg-local-lz4-deltas', 'base_000000010000000000000006_D_000000010000000000000004')
    const sentinel = parseSentinel(bytes, key)
    assert.equal(isDelta(sentinel), true)
    assert.deepEqual(sentinel.delta, {
      parentName: 'base_000000010000000000000004_D_000000010000000000000002',
      parentLsn: 67108904n,
      fullName: 'base_000000010000000000000002',
      count: 2,
      incrementFormat: undefined,
    })
    assert.deepEqual(sentinel.spec?.tablespaces, [
      { oid: 16384, location: '/fx/walg-local-lz4-deltas/ts', link: 'pg_tblspc/16384' },
    ])
    assert.equal(sentinel.systemIdentifier, 7710381530900200095n)
  })

  test("PostgreSQL's own increments are distinguished from WAL-G's", () => {
    const backup = 'base_000000010000000000000004_D_000000010000000000000002'
    const bytes = goldenSentinel('walrus-local-zstd-native-increments', backup)
    const sentinel = parseSentinel(bytes, key)
    assert.equal(sentinel.delta?.incrementFormat, 'native')
    assert.deepEqual(parseJson(formatSentinel(sentinel).toString()), parseJson(bytes.toString()))
  })
})

test("a sentinel has Go's keys in Go's order, numbers of 64 bits bare, and null only where Go writes it", () => {
  assert.equal(
    formatSentinel(ours).toString(),
    '{"LSN":50331688,"PgVersion":170005,"FinishLSN":50331984,"SystemIdentifier":7455523487659893045,' +
      '"UncompressedSize":31457280,"CompressedSize":4400000,' +
      '"Spec":{"base_prefix":"/var/lib/postgresql/17/main","tablespaces":[]},"ChkpNum":null,"Version":2,' +
      '"StartTime":"2025-06-01T10:00:00.123457Z","FinishTime":"2025-06-01T10:00:04.5Z",' +
      '"DateFmt":"%Y-%m-%dT%H:%M:%S.%fZ","Hostname":"backup1","DataDir":"/var/lib/postgresql/17/main",' +
      '"IsPermanent":false}',
  )
})

test('what may be left out comes back when it is there', () => {
  const full: Sentinel = {
    ...ours,
    startLsn: toLsn(0xfedcba9876543210n),
    delta: {
      parentName: 'base_A',
      parentLsn: toLsn(0xfedcba0000000028n),
      fullName: 'base_A',
      count: 1,
      incrementFormat: 'native',
    },
    dataCatalogSize: 23420928,
    spec: {
      basePrefix: '/data',
      tablespaces: [{ oid: 4294967295, location: '/srv/ts 1', link: 'pg_tblspc/4294967295' }],
    },
    userData: { job: 'nightly', wide: 9007199254740993n, list: [1, null] },
    filesMetadataDisabled: true,
    isPermanent: true,
    extra: { ChkpNum: 5, DeltaChkpNum: 4, ToCome: { a: 1 } },
  }
  assert.deepEqual(parseSentinel(formatSentinel(full), key), full)
  assert.match(formatSentinel(full).toString(), /"FilesMetadataDisabled":true,"ChkpNum":5,"Version":2,/)
})

test('an old sentinel is read: keys in lower case, the old name of a delta, no second version', () => {
  const old = parse(
    '{"LSN":33554472,"DeltaFromLSN":20,"DeltaFrom":"base_A","spec":{"base_prefix":"/data","tablespaces":["16385"],' +
      '"16385":{"loc":"/ts","link":"pg_tblspc/16385"}},"PgVersion":90605,"FinishLSN":null,"Files":{"a":{}}}',
  )
  assert.equal(old.version, undefined)
  assert.equal(old.delta?.parentLsn, 20n)
  assert.equal(old.spec?.tablespaces[0]?.location, '/ts')
  assert.deepEqual([old.finishLsn, old.systemIdentifier, old.startTime], [undefined, undefined, undefined])
  assert.deepEqual(old.extra, { Files: { a: {} } })
  const walE = parse('{"wal_segment_backup_stop":"00000001000000000000000B","expanded_size_bytes":1}')
  assert.deepEqual([walE.startLsn, isDelta(walE), walE.uncompressedSize], [undefined, false, 0])
})

test('zero, null and nothing are all no position', () => {
  for (const field of ['"LSN":0,', '"LSN":null,', ''])
    assert.equal(parse(`{${field}"Version":2}`).startLsn, undefined, field)
})

test('a delta that does not say its parent is damage, not a full backup', () => {
  for (const field of ['"DeltaLSN":5', '"DeltaCount":1', '"DeltaFullName":"base_A"', '"DeltaFrom":""']) {
    assert.throws(
      () => parse(`{${field}}`),
      (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED') && error.message.includes('DeltaFrom'),
      field,
    )
  }
  assert.equal(isDelta(parse('{"DeltaFrom":null,"DeltaLSN":null}')), false)
})

test('damage is reported with object, field and value', () => {
  for (const [text, part] of [
    ['', 'is not JSON'],
    ['[]', 'is not a JSON object'],
    ['{"LSN":"0/3000028"}', 'LSN is "0/3000028", not a whole number'],
    ['{"LSN":-1}', 'LSN is -1'],
    ['{"LSN":18446744073709551616}', 'LSN is "18446744073709551616"'],
    ['{"SystemIdentifier":1.5}', 'SystemIdentifier is 1.5'],
    ['{"IsPermanent":"yes"}', 'IsPermanent is "yes"'],
    ['{"StartTime":5}', 'StartTime is 5'],
    ['{"Spec":[]}', 'Spec is not a JSON object'],
    ['{"Spec":{"base_prefix":"/d","tablespaces":["16384"]}}', 'Spec: 16384 is undefined'],
    ['{"Spec":{"base_prefix":"/d","tablespaces":["../x"],"../x":{"loc":"/"}}}', '"../x"'],
  ] as const) {
    assert.throws(
      () => parse(text),
      (error) => {
        assert.ok(hasCode(error, 'WALRX_OBJECT_DAMAGED'), String(error))
        assert.ok(error.message.startsWith(key) && error.message.includes(part), error.message)
        return true
      },
    )
  }
  assert.throws(() => parseSentinel(Buffer.from([0x7b, 0xff, 0x7d]), key), /not JSON/)
})

test('user data that looks like a prototype stays data', () => {
  const sentinel = parse('{"UserData":{"__proto__":{"polluted":1}},"__proto__":{"a":1}}')
  assert.equal(formatSentinel(sentinel).toString().includes('"UserData":{"__proto__":{"polluted":1}}'), true)
  assert.equal(({} as { polluted?: number }).polluted, undefined)
  assert.equal(formatSentinel(sentinel).toString().includes('"__proto__":{"a":1}'), true)
})
