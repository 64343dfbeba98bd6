import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import fc from 'fast-check'
import { listInOrder } from '../../src/catalog/backup-order.ts'
import { isPermanent, readDetails, selectBackup } from '../../src/catalog/backups.ts'
import { mapInParallel } from '../../src/catalog/map-in-parallel.ts'
import { hasCode } from '../../src/primitives/errors.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { metadataKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { seedParts } from '../harness/made/made-parts.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

let storage: MemoryStorage
let archive: BackupArchive
beforeEach(() => {
  storage = new MemoryStorage()
  archive = new BackupArchive(storage)
})

const backup = (number: number) => `base_0000000100000000000000${number.toString(16).toUpperCase().padStart(2, '0')}`

function seed(name: string, lastModifiedMs: number, fields = '{}'): void {
  storage.seed(sentinelKey(name), fields, lastModifiedMs)
  seedParts(storage, name)
}

const names = async () => (await listInOrder(archive)).map(({ name }) => name)

/** A time in the second with this number. */
const at = (second: number) => new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString()
const began = (second: number, more = {}) => JSON.stringify({ StartTime: at(second), ...more })

describe('the order of backups', () => {
  test('is that of their starts by their own documents, whatever the storage and the names say (wal-g #694)', async () => {
    // As a copy of a bucket leaves them: in any order, or with one time for all.
    for (const times of [
      [1000, 2000, 3000],
      [3000, 2000, 1000],
      [2000, 3000, 1000],
      [1000, 1000, 1000],
    ]) {
      seed(backup(9), times[0]!, began(1))
      seed(backup(1), times[1]!, began(2))
      seed(`${backup(3)}_D_000000010000000000000001`, times[2]!, began(3))
      assert.deepEqual(await names(), [backup(9), backup(1), `${backup(3)}_D_000000010000000000000001`])
    }
  })

  test('goes by metadata.json where the sentinel has no time, as the first versions of WAL-G wrote them', async () => {
    seed(backup(1), 1000, '{"LSN":5,"StartTime":"0001-01-01T00:00:00Z"}')
    storage.seed(metadataKey(backup(1)), JSON.stringify({ start_time: at(5) }))
    seed(backup(2), 2000, began(4))
    seed(backup(3), 3000, began(6))
    storage.seed(metadataKey(backup(3)), JSON.stringify({ start_time: at(1) }))
    assert.deepEqual(await names(), [backup(2), backup(1), backup(3)])
    assert.ok(!storage.log.includes(`get ${metadataKey(backup(3))}`))
  })

  test('puts those that say no time first, by timeline and segment', async () => {
    seed(backup(7), 9000, 'damaged')
    seed('base_000000020000000000000001', 1000, '{}')
    seed(backup(2), 8000, '{"LSN":9}')
    seed(backup(1), 500, began(1))
    assert.deepEqual(await names(), [backup(2), backup(7), 'base_000000020000000000000001', backup(1)])
  })

  test('among equal starts is that of the positions, then of the names', async () => {
    const start = '2026-01-01T00:00:00.000000001Z'
    seed(backup(1), 1000, '{"StartTime":"2026-01-01T00:00:00.000000002Z","LSN":1}')
    seed(backup(2), 1000, JSON.stringify({ StartTime: start, LSN: 9 }))
    seed(backup(3), 1000, `{"StartTime":"${start}","LSN":18446744073709551615}`)
    seed(backup(5), 1000, JSON.stringify({ StartTime: start, LSN: 9 }))
    assert.deepEqual(await names(), [backup(2), backup(5), backup(3), backup(1)])
  })

  test('is that of the timelines and positions of a server, where the clocks of its hosts contradict them', async () => {
    const one = { SystemIdentifier: 1 }
    seed(backup(1), 1000, began(86_400, { LSN: 1, ...one }))
    seed(backup(2), 1000, began(10, { LSN: 2, ...one }))
    seed(backup(3), 1000, began(86_300, { LSN: 3, ...one }))
    // Another server: only times can say.
    seed(backup(9), 1000, began(86_350, { LSN: 9, SystemIdentifier: 2 }))
    // A host that was promoted with a clock that is a day late, and the former primary, which still takes backups.
    seed('base_000000020000000000000008', 1000, began(5, { LSN: 8, ...one }))
    seed(backup(11), 9000, began(90_000, { LSN: 11, ...one }))
    assert.deepEqual(await names(), [
      ...[backup(9), backup(1), backup(2), backup(3)],
      ...[backup(11), 'base_000000020000000000000008'],
    ])
  })

  test('is a total one, the same whatever order the storage lists in', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: -1, max: 2 }), fc.integer({ min: 0, max: 3 })), { maxLength: 12 }),
        async (entries) => {
          storage.objects.clear()
          for (const [index, [second, lsn]] of entries.entries())
            seed(backup(index), lsn, second < 0 ? '{}' : began(second, { LSN: lsn }))
          const order = (await names()).map((name) => parseInt(name.slice(-2), 16))
          const keyOf = (index: number) => {
            const [second, lsn] = entries[index]!
            return [second, second < 0 ? 0 : lsn, index]
          }
          const expected = [...entries.keys()].sort((a, b) => {
            const [left, right] = [keyOf(a), keyOf(b)]
            const different = left.findIndex((value, place) => value !== right[place])
            return (left[different] ?? 0) - (right[different] ?? 0)
          })
          assert.deepEqual(order, expected)
        },
      ),
    )
  })

  test('costs one request for each backup, several at a time', async () => {
    for (let number = 0; number < 100; number++) seed(backup(number), 1000, began(number))
    await names()
    assert.equal(storage.log.filter((call) => call.startsWith('get')).length, 100)
  })

  test('ends with an outage, which is no order', async () => {
    seed(backup(1), 1000)
    seed(backup(2), 1000)
    storage.before = ({ operation }) => {
      if (operation === 'get') throw new Error('outage')
    }
    await assert.rejects(listInOrder(archive), /outage/)
  })
})

describe('a backup that is asked for', () => {
  test('by LATEST is the one that began last', async () => {
    seed(backup(2), 1000, began(1))
    seed(backup(1), 3000, began(2))
    assert.deepEqual(await selectBackup(archive, 'LATEST'), { name: backup(1), lastModifiedMs: 3000, notes: [] })
  })

  test('by LATEST is reported once, with both names, where the storage says otherwise', async () => {
    seed(backup(1), 1000, began(3))
    seed(backup(2), 3000, began(2))
    seed(backup(3), 2000, began(1))
    const { name, notes } = await selectBackup(archive, 'LATEST')
    assert.equal(name, backup(1))
    assert.deepEqual(notes, [
      `LATEST is ${backup(1)} (began at 2026-01-01T00:00:03Z); by the times in the storage it would be ${backup(2)} (began at 2026-01-01T00:00:02Z), which WAL-G and WAL-RUS take`,
    ])
    seed(backup(4), 4000, 'damaged')
    const again = await selectBackup(archive, 'LATEST')
    assert.equal(again.name, backup(1))
    assert.match(again.notes.join(), new RegExp(`it would be ${backup(4)} \\(no document says when it began\\)`))
  })

  test('by LATEST is reported where the times in the storage do not decide', async () => {
    seed(backup(1), 1000, began(2))
    seed(backup(2), 1000, began(1))
    const { name, notes } = await selectBackup(archive, 'LATEST')
    assert.equal(name, backup(1))
    assert.equal(notes.length, 1)
    for (const part of ['1970-01-01T00:00:01.000Z', backup(1), backup(2), 'LATEST']) assert.ok(notes[0]?.includes(part))
  })

  test('by name is found by one request', async () => {
    seed(backup(1), 1000)
    assert.equal((await selectBackup(archive, backup(1))).name, backup(1))
    assert.deepEqual(storage.log, [`head ${sentinelKey(backup(1))}`])
  })

  test('and is not there is refused, with the name that it may have been', async () => {
    seed(backup(1), 1000)
    for (const [name, hint] of [
      [`${backup(1)}0`, `did you mean ${backup(1)}?`],
      ['LATSET', 'did you mean LATEST?'],
      ['x', 'walrx backup-list shows the backups of the archive'],
      ['../../x', 'walrx backup-list shows the backups of the archive'],
      ['', 'walrx backup-list shows the backups of the archive'],
    ] as const) {
      await assert.rejects(selectBackup(archive, name), (error) => {
        assert.ok(hasCode(error, 'WALRX_BACKUP_NOT_FOUND'))
        assert.equal(error.message, `there is no backup "${name}" at memory://test`)
        assert.equal(error.hint, hint)
        return true
      })
    }
  })

  test('in an empty archive is refused', async () => {
    storage.seed(metadataKey(backup(1)), '{}')
    await assert.rejects(selectBackup(archive, 'LATEST'), (error) => hasCode(error, 'WALRX_BACKUP_NOT_FOUND'))
  })
})

describe('details', () => {
  const detailOf = async () => {
    const [detail] = await readDetails(archive, await archive.listBackups())
    assert.ok(detail)
    return detail
  }

  test('come from metadata.json, and from the sentinel where that is missing', async () => {
    seed(backup(1), 1000, '{"Hostname":"from the sentinel"}')
    assert.equal((await detailOf()).metadata?.hostname, 'from the sentinel')
    storage.seed(metadataKey(backup(1)), '{"hostname":"from metadata"}')
    assert.equal((await detailOf()).metadata?.hostname, 'from metadata')
    assert.deepEqual((await detailOf()).problems, [])
  })

  test('name what is damaged and show the rest', async () => {
    seed(backup(1), 1000, '{"Hostname":"from the sentinel"}')
    storage.seed(metadataKey(backup(1)), 'x')
    let detail = await detailOf()
    assert.deepEqual([detail.metadata?.hostname, detail.problems.length], ['from the sentinel', 1])
    seed(backup(1), 1000, 'x')
    detail = await detailOf()
    assert.deepEqual([detail.metadata, detail.sentinel, detail.problems.length], [undefined, undefined, 2])
    assert.match(detail.problems[0]?.message ?? '', /_backup_stop_sentinel\.json is not JSON/)
    storage.before = () => {
      throw new Error('outage')
    }
    await assert.rejects(readDetails(archive, [{ name: backup(1), lastModifiedMs: 0 }]), /outage/)
  })

  test('say permanent when either of the two places does', async () => {
    for (const [sentinel, metadata, expected] of [
      ['{}', undefined, false],
      ['{"IsPermanent":true}', undefined, true],
      ['{"IsPermanent":true}', '{"is_permanent":false}', true],
      ['{"IsPermanent":false}', '{"is_permanent":true}', true],
      ['{"IsPermanent":false}', '{"is_permanent":false}', false],
      ['damaged', '{"is_permanent":true}', true],
      ['damaged', 'damaged', false],
    ] as const) {
      storage.objects.clear()
      seed(backup(1), 1000, sentinel)
      if (metadata !== undefined) storage.seed(metadataKey(backup(1)), metadata)
      assert.equal(isPermanent((await detailOf()).permanence), expected, `${sentinel} ${metadata}`)
    }
  })
})

describe('work in parallel', () => {
  test('keeps the order, and no more under way than a few', async () => {
    let running = 0
    let most = 0
    const results = await mapInParallel([...Array(100).keys()], async (item) => {
      most = Math.max(most, ++running)
      for (let turn = 0; turn < 1 + ((item * 7) % 5); turn++) await Promise.resolve()
      running--
      return item * 2
    })
    assert.deepEqual(
      results,
      [...Array(100).keys()].map((item) => item * 2),
    )
    assert.equal(most, 16)
    assert.deepEqual(await mapInParallel([], () => Promise.reject(new Error('never called'))), [])
  })

  test('ends with the first failure, begins nothing after it and leaves nothing under way', async () => {
    let begun = 0
    let running = 0
    await assert.rejects(
      mapInParallel([...Array(1000).keys()], async (item) => {
        begun++
        running++
        await Promise.resolve()
        running--
        if (item === 20) throw new Error('twenty')
      }),
      /^Error: twenty$/,
    )
    assert.equal(running, 0)
    assert.ok(begun < 60, String(begun))
  })
})
