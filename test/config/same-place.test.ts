/** A copy must not go to the archive's own place, however that is written. */
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { parseS3Prefix } from '../../src/config/s3-prefix.ts'
import { refuseSamePlace } from '../../src/config/same-place.ts'
import { hasCode } from '../../src/primitives/errors.ts'

let top: string
before(() => {
  top = realpathSync(mkdtempSync(join(tmpdir(), 'walrx-places-')))
  for (const name of ['db1/wal_005', 'db1/deep/er', 'db10', 'disk/wal', 'linked', 'other', 'mount'])
    mkdirSync(join(top, name), { recursive: true })
  symlinkSync(join(top, 'db1'), join(top, 'by-link'))
  symlinkSync('../disk/wal', join(top, 'linked/wal_005'))
  symlinkSync(join(top, 'db1/wal_005'), join(top, 'other/wal_005'))
})
after(() => rmSync(top, { recursive: true }))

const directory = (path: string) => ({ storage: { location: `file://${join(top, path)}` }, endpoint: undefined })

function bucket(prefix: string, endpoint?: string) {
  const { bucket: name, folder } = parseS3Prefix(prefix)
  return { storage: { location: `s3://${name}${folder === '' ? '' : `/${folder}`}` }, endpoint }
}

type Place = ReturnType<typeof directory> | ReturnType<typeof bucket>

async function relation(source: Place, target: Place): Promise<string> {
  try {
    await refuseSamePlace(source, target)
    return 'apart'
  } catch (error) {
    assert.ok(hasCode(error, 'WALRX_USAGE'), String(error))
    for (const { storage } of [source, target]) assert.ok(error.message.includes(storage.location), error.message)
    const words = { 'are the same': 'same', 'lies in the archive': 'inside', 'lies in the place': 'around' }
    return Object.entries(words).find(([text]) => error.message.includes(text))?.[1] ?? error.message
  }
}

describe('the place of a copy', () => {
  const directories: [source: string, target: string, expected: string][] = [
    ['db1', 'db1', 'same'],
    ['db1', 'db1/.', 'same'],
    ['db1', 'other/../db1', 'same'],
    ['db1', 'by-link', 'same'],
    ['by-link', 'db1', 'same'],
    ['db1', 'by-link/deep/er', 'inside'],
    ['db1', 'db1/deep', 'inside'],
    ['db1', 'db1/not/there/yet', 'inside'],
    ['db1', 'db1/wal_005', 'inside'],
    ['db1/deep', 'by-link', 'around'],
    ['db1', '', 'around'],
    ['db1', 'db10', 'apart'],
    ['db10', 'db1', 'apart'],
    ['db1', 'not/there', 'apart'],
    // By a link of a folder of the archive.
    ['linked', 'disk/wal', 'same'],
    ['linked', 'disk', 'around'],
    ['linked', 'disk/wal/deep', 'inside'],
    ['db1', 'other', 'inside'],
    ['linked', 'db1', 'apart'],
  ]
  for (const [source, target, expected] of directories) {
    test(`${target || 'what is above'} is ${expected} for ${source}`, async () => {
      assert.equal(await relation(directory(source), directory(target)), expected)
    })
  }

  test('is found by a bind mount, also of a folder in the archive', async (t) => {
    const target = join(top, 'mount')
    const isMounted = spawnSync('mount', ['--bind', join(top, 'db1'), target]).status === 0
    if (!isMounted) return t.skip('no right to mount')
    try {
      assert.equal(await relation(directory('db1'), directory('mount')), 'same')
      assert.equal(await relation(directory('db1'), directory('mount/deep')), 'inside')
      execFileSync('umount', [target])
      execFileSync('mount', ['--bind', join(top, 'db1/deep'), target])
      assert.equal(await relation(directory('db1'), directory('mount/er')), 'inside')
      assert.equal(await relation(directory('mount'), directory('db1')), 'around')
      assert.equal(await relation(directory('mount'), directory('db10')), 'apart')
    } finally {
      spawnSync('umount', [target])
    }
  })

  const store = 'http://127.0.0.1:9000'
  const buckets: [source: [string, string?], target: [string, string?], expected: string][] = [
    [['s3://b/db1'], ['s3://b/db1/'], 'same'],
    [['s3://b/db%31'], ['s3://b/db1'], 'same'],
    [['s3://b/db1', store], ['s3://b/db1', `${store}/`], 'same'],
    [['s3://b/db1', store], ['s3://b/db1', 'HTTP://localhost:9000'], 'same'],
    [['s3://b/db1', 'https://store.example'], ['s3://b/db1', 'https://Store.Example:443/'], 'same'],
    [['s3://b/db1'], ['s3://b/db1', 'https://s3.eu-west-1.amazonaws.com'], 'same'],
    [['s3://b/db1', store], ['s3://b/db1/copy', store], 'inside'],
    [['s3://b/db1'], ['s3://b'], 'around'],
    [['s3://b/db1'], ['s3://b/db10'], 'apart'],
    [['s3://b/db1'], ['s3://c/db1'], 'apart'],
    [['s3://b/db1', store], ['s3://b/db1', 'http://127.0.0.1:9001'], 'apart'],
    [['s3://b/db1', store], ['s3://b/db1'], 'apart'],
  ]
  for (const [source, target, expected] of buckets) {
    test(`${target.join(' at ')} is ${expected} for ${source.join(' at ')}`, async () => {
      assert.equal(await relation(bucket(...source), bucket(...target)), expected)
    })
  }

  test('may be a directory for a bucket', async () => {
    assert.equal(await relation(bucket('s3://b/db1'), directory('db1')), 'apart')
  })
})
