import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseRelationPath, relationPath } from '../../../src/postgres/relations/relation-names.ts'

const folder = 'PG_17_202406281'

test('the path of a fork is made of tablespace, database and relation, and parsed again', () => {
  for (const [path, tablespace, database, relation, fork] of [
    ['base/5/16384', 1663, 5, 16384, 'main'],
    ['base/5/16384_vm', 1663, 5, 16384, 'vm'],
    ['global/1262', 1664, 0, 1262, 'main'],
    ['global/1262_fsm', 1664, 0, 1262, 'fsm'],
    [`pg_tblspc/16385/${folder}/5/4294967295_init`, 16385, 5, 4294967295, 'init'],
  ] as const) {
    const locator = { tablespace, database, relation }
    assert.deepEqual(parseRelationPath(path), { ...locator, fork, segment: 0 })
    assert.equal(relationPath(locator, fork, folder), path)
  }
  assert.equal(parseRelationPath('base/5/16384_fsm.12')?.segment, 12)
  assert.equal(parseRelationPath('base/5/16384.3')?.segment, 3)
})

test('what is no file of a relation has no relation', () => {
  for (const path of [
    'base/5/PG_VERSION',
    'base/5/t3_100',
    'base/5',
    'pg_xact/0000',
    'base/pgsql_tmp/1',
    'x/base/5/1',
  ]) {
    assert.equal(parseRelationPath(path), undefined, path)
  }
})
