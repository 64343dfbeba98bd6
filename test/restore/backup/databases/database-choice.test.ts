import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { crc32c } from '@node-rs/crc32'
import { databaseNames, leftOutText } from '../../../../src/cli/settings/database-wish.ts'
import { databaseRows } from '../../../../src/postgres/relations/pg-database.ts'
import { readRelationMap } from '../../../../src/postgres/relations/relation-map.ts'
import { hasCode } from '../../../../src/primitives/errors.ts'
import { chooseDatabases } from '../../../../src/restore/backup/databases/database-choice.ts'
import { LeftOutFiles } from '../../../../src/restore/backup/databases/left-out-files.ts'
import { MemorySink } from '../../../../src/restore/backup/databases/memory-sink.ts'

const row = (oid: number, name: string, isTemplate = false) => ({ oid, name, isTemplate })
const system = [row(1, 'template1', true), row(4, 'template0', true), row(5, 'postgres')]

describe('the choice of databases', () => {
  const names = (databases: readonly { readonly name: string }[]) => databases.map(({ name }) => name)

  test('has the wanted ones, and those of the system and templates', () => {
    const rows = [...system, row(16400, 'a'), row(16401, 'b'), row(16402, 'mine', true), row(20000, 'postgres')]
    const { leftOut, wanted } = chooseDatabases(rows, ['a'], 'base_X')
    assert.deepEqual(names(leftOut), ['b'])
    assert.deepEqual(names(wanted), ['a', 'mine', 'postgres', 'postgres', 'template0', 'template1'])
  })

  test('has each database that has, or had, the name', () => {
    const rows = [...system, row(16400, 'old'), row(16400, 'new'), row(16401, 'new'), row(16402, 'c')]
    assert.deepEqual(chooseDatabases(rows, ['old'], 'base_X').leftOut, [
      { oid: 16402, name: 'c' },
      { oid: 16401, name: 'new' },
    ])
    assert.deepEqual(names(chooseDatabases(rows, ['new'], 'base_X').leftOut), ['c'])
  })

  test('refuses a name that no database has', () => {
    for (const [name, pattern] of [
      ['nosuch', /base_X has no database "nosuch"/],
      ['a/public.t', /base_X has no database "a\/public.t"/],
    ] as const) {
      assert.throws(
        () => chooseDatabases([...system, row(16400, 'a')], ['a', name], 'base_X'),
        (error) => hasCode(error, 'WALRX_USAGE') && pattern.test(error.message),
      )
    }
  })

  test('is read from one or several options', () => {
    assert.deepEqual(databaseNames('a,b'), ['a', 'b'])
    assert.deepEqual(databaseNames('a\\,b\0c,d\\\\'), ['a,b', 'c', 'd\\'])
    for (const text of ['', 'a,', ',a', 'a,,b']) assert.throws(() => databaseNames(text), /empty name/)
  })

  test('names those to drop as SQL', () => {
    const lines = leftOutText({ wanted: [], leftOut: [row(16400, 'we"ird')] })
    assert.equal(lines.at(-1), '  DROP DATABASE "we""ird";')
  })
})

/** A page with the tuples, as bufpage.c lays them out. */
function page(...tuples: readonly { infomask: number; row: Buffer; flags?: number }[]): Buffer {
  const made = Buffer.alloc(8192)
  let upper = made.length
  for (const [index, { flags = 1, infomask, row: data }] of tuples.entries()) {
    const tuple = Buffer.concat([Buffer.alloc(24), data])
    tuple.writeUInt16LE(infomask, 20)
    tuple[22] = 24
    upper -= tuple.length
    tuple.copy(made, upper)
    made.writeUInt32LE((upper | (flags << 15) | (tuple.length << 17)) >>> 0, 24 + 4 * index)
  }
  made.writeUInt16LE(24 + 4 * tuples.length, 12)
  return made
}

function rowOf(oid: number, name: string, isTemplate: boolean, major: number): Buffer {
  const made = Buffer.alloc(major >= 15 ? 100 : 240)
  made.writeUInt32LE(oid, 0)
  made.write(name, 4)
  made[major >= 15 ? 77 : 204] = isTemplate ? 1 : 0
  return made
}

describe('rows of pg_database', () => {
  for (const major of [14, 18]) {
    test(`of PostgreSQL ${major}`, () => {
      const pages = Buffer.concat([
        page(
          { infomask: 0x0100, row: rowOf(1, 'template1', true, major) },
          { infomask: 0x0300, row: rowOf(16400, 'frozen', false, major) },
          { infomask: 0x0200, row: rowOf(16401, 'rolled back', false, major) },
          { infomask: 0, row: rowOf(16402, 'n'.repeat(63), false, major) },
          { infomask: 0, row: rowOf(16403, 'dead', false, major), flags: 3 },
        ),
        Buffer.alloc(8192),
        page({ infomask: 0x0100, row: Buffer.alloc(40) }),
      ])
      assert.deepEqual(databaseRows(pages, major), [
        row(1, 'template1', true),
        row(16400, 'frozen'),
        row(16402, 'n'.repeat(63)),
      ])
    })
  }

  test('are not read where a page is damaged', () => {
    const damaged = Buffer.alloc(8192, 0xff)
    assert.deepEqual(databaseRows(damaged, 18), [])
  })
})

describe('a relation map', () => {
  const map = (room: number, mappings: readonly (readonly [number, number])[]) => {
    const made = Buffer.alloc(room === 62 ? 512 : 524)
    made.writeUInt32LE(0x592717, 0)
    made.writeUInt32LE(mappings.length, 4)
    mappings.forEach(([oid, file], index) => {
      made.writeUInt32LE(oid, 8 + 8 * index)
      made.writeUInt32LE(file, 12 + 8 * index)
    })
    made.writeUInt32LE(crc32c(made.subarray(0, 8 + 8 * room)), 8 + 8 * room)
    return made
  }

  test('is read in both sizes', () => {
    for (const room of [62, 64]) {
      assert.deepEqual([...readRelationMap(map(room, [[1262, 16999]]), 'x')], [[1262, 16999]])
    }
  })

  test('is refused with one wrong byte, or another size', () => {
    const good = map(64, [[1262, 16999]])
    for (const at of [0, 4, 9, 15, 521]) {
      const bad = Buffer.from(good)
      bad[at] = (bad[at] ?? 0) ^ 0x10
      assert.throws(() => readRelationMap(bad, 'the map'), /the map/)
    }
    assert.throws(() => readRelationMap(good.subarray(1), 'the map'), /523 bytes/)
  })
})

test('a file is left out by its database, in each tablespace', () => {
  const files = new LeftOutFiles([16400])
  for (const path of ['base/16400/1259', 'base/16400/PG_VERSION', 'pg_tblspc/1/PG_18_202506291/16400/3_fsm.1']) {
    assert.ok(files.has(path), path)
  }
  for (const path of ['base/1640/1', 'base/164000/1', 'global/16400', 'base/16400', 'pg_tblspc/16400/PG_18_1/5/1']) {
    assert.ok(!files.has(path), path)
  }
})

test('memory takes files and changes of them, up to a size', async () => {
  const sink = new MemorySink(10)
  await (await sink.file('a')).write(Buffer.from('abc'))
  const changed = await sink.change('a')
  await changed.resize(5)
  await changed.write(3, Buffer.from('xyz'))
  assert.equal(String(sink.content('a')), 'abcxyz')
  await assert.rejects(
    async () => changed.resize(11),
    (error) => hasCode(error, 'WALRX_BACKUP_UNSUPPORTED'),
  )
})
