import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { ChangeIndex, methodOf, SizeEstimate } from '../../../src/backup/plan/size-estimate.ts'
import type { SegmentChange } from '../../../src/postgres/relations/block-changes.ts'
import { pageBytes, segmentBlocksMax } from '../../../src/postgres/relations/relation-file.ts'

/** A change of relation 100 in database 5. */
function change(more: Partial<SegmentChange>): SegmentChange {
  const segment = more.limit === undefined ? 0 : undefined
  return { tablespace: 1663, database: 5, relation: 100, fork: 'main', segment, blocks: 0, limit: undefined, ...more }
}

function indexOf(...changes: readonly Partial<SegmentChange>[]): ChangeIndex {
  const index = new ChangeIndex()
  for (const each of changes) index.add(change(each))
  return index
}

const parentHas = () => true
const file = (path: string, blocks: number) => ({ path, size: blocks * pageBytes })
const main = (blocks: number) => file('base/5/100', blocks)

describe('a file', () => {
  test('of nothing that changed is an increment without blocks', () => {
    assert.deepEqual(methodOf(main(10), indexOf(), parentHas), { blocks: 0 })
    const others = indexOf({ relation: 101, blocks: 5 }, { fork: 'vm', blocks: 5 }, { database: 6, blocks: 5 })
    assert.deepEqual(methodOf(main(10), others, parentHas), { blocks: 0 })
  })

  test('is an increment up to nine tenths, and whole beyond', () => {
    assert.deepEqual(methodOf(main(10), indexOf({ blocks: 9 }), parentHas), { blocks: 9 })
    assert.deepEqual(methodOf(main(10), indexOf({ blocks: 10 }), parentHas), { whole: 'changed' })
    assert.deepEqual(methodOf(main(100), indexOf({ blocks: 90 }), parentHas), { blocks: 90 })
    assert.deepEqual(methodOf(main(100), indexOf({ blocks: 91 }), parentHas), { whole: 'changed' })
  })

  test('is whole where it is no main fork of a database, or no relation at all', () => {
    for (const [path, whole] of [
      ['base/5/100_vm', 'fork'],
      ['base/5/100_fsm', 'fork'],
      ['base/5/100_init', 'fork'],
      ['global/1262', 'shared'],
      ['base/5/PG_VERSION', 'no-relation'],
      ['pg_xact/0000', 'no-relation'],
      ['base/5/pg_filenode.map', 'no-relation'],
    ] as const) {
      assert.deepEqual(methodOf(file(path, 1), indexOf(), parentHas), { whole }, path)
    }
  })

  test('is whole where the parent lacks it, or its size is none of a relation', () => {
    assert.deepEqual(
      methodOf(main(10), indexOf(), (path) => path !== 'base/5/100'),
      { whole: 'new' },
    )
    assert.deepEqual(methodOf(main(0), indexOf(), parentHas), { whole: 'odd' })
    assert.deepEqual(methodOf({ path: 'base/5/100', size: 8191 }, indexOf(), parentHas), { whole: 'odd' })
    assert.deepEqual(methodOf(main(segmentBlocksMax + 1), indexOf(), parentHas), { whole: 'odd' })
  })

  test('is whole where relation or database were created again', () => {
    assert.deepEqual(methodOf(main(10), indexOf({ limit: 0 }), parentHas), { whole: 'emptied' })
    assert.deepEqual(methodOf(main(10), indexOf({ relation: 0, limit: 0 }), parentHas), { whole: 'emptied' })
    const elsewhere = indexOf({ relation: 0, limit: 0, tablespace: 16385 })
    assert.deepEqual(methodOf(main(10), elsewhere, parentHas), { blocks: 0 })
    const inTablespace = file('pg_tblspc/16385/PG_17_202406281/5/100', 10)
    assert.deepEqual(methodOf(inTablespace, elsewhere, parentHas), { whole: 'emptied' })
  })

  test('of a relation that was cut is whole in the segment of the cut, and after it', () => {
    const cut = indexOf({ limit: segmentBlocksMax + 3 }, { segment: 0, blocks: 2 }, { segment: 1, blocks: 2 })
    assert.deepEqual(methodOf(main(segmentBlocksMax), cut, parentHas), { blocks: 2 })
    assert.deepEqual(methodOf(file('base/5/100.1', 10), cut, parentHas), { whole: 'cut' })
    assert.deepEqual(methodOf(file('base/5/100.2', 10), cut, parentHas), { whole: 'emptied' })
    assert.deepEqual(methodOf(main(10), indexOf({ limit: 10 }), parentHas), { whole: 'cut' })
    // Of another fork it is.
    assert.deepEqual(methodOf(main(10), indexOf({ limit: 1, fork: 'vm' }), parentHas), { blocks: 0 })
  })

  test('of a later segment counts its own blocks', () => {
    const own = indexOf({ segment: 0, blocks: 3 }, { segment: 1, blocks: 4 })
    assert.deepEqual(methodOf(file('base/5/100.1', 10), own, parentHas), { blocks: 4 })
    assert.deepEqual(methodOf(main(segmentBlocksMax), own, parentHas), { blocks: 3 })
  })
})

describe('a size', () => {
  const partBytes = 1024 ** 3

  test('is that of the tars: headers, bodies and padding', () => {
    const index = indexOf({ blocks: 2 })
    const estimate = new SizeEstimate(partBytes, (each) => methodOf(each, index, parentHas))
    estimate.add({ path: 'base', kind: 'directory', size: 0 })
    estimate.add({ path: 'base/5/100', kind: 'file', size: 10 * pageBytes })
    estimate.add({ path: 'base/5/101', kind: 'file', size: 10 * pageBytes })
    estimate.add({ path: 'PG_VERSION', kind: 'file', size: 3 })
    // The folders, pg_control and backup_label with their tars, and the end of one more.
    const frame = 2 * 512 + (512 + 8192) + 1024 + 3 * 1024
    assert.equal(estimate.full.bytes, 2 * (512 + 81_920) + 1024 + frame)
    assert.deepEqual(estimate.delta, {
      bytes: 512 + 16_896 + 1024 + 1024 + frame,
      increments: { files: 1, blocks: 2, bytes: 512 + 16_896 },
      unchanged: { files: 1, bytes: 1024 },
      whole: { files: 1, bytes: 1024 },
      wholeBecause: new Map([['no-relation', { files: 1, bytes: 1024 }]]),
    })
  })

  test('of a full backup has no delta beside it', () => {
    const estimate = new SizeEstimate(partBytes)
    estimate.add({ path: 'base/5/100', kind: 'file', size: pageBytes })
    assert.equal(estimate.delta, undefined)
    assert.equal(estimate.full.files, 1)
  })
})
