/** Where LATEST cannot be restored, the message names the backup that can (wal-g #1770, spilo #652). */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { backupToRestore } from '../../../src/cli/settings/backup-to-restore.ts'
import { silentLog } from '../../../src/observe/log.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { metadataKey, partKey, sentinelKey } from '../../../src/walg/backup/backup-names.ts'
import { MadeRecords, otherRecord, switchRecord } from '../../harness/made/made-records.ts'
import { madeSegmentSize } from '../../harness/made/made-wal.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { serverTar } from '../../backup/parts/tars.ts'

const segments = [5n, 6n, 7n, 8n].map((number) => segmentName(1, number, madeSegmentSize))
const [oldest, older, newest] = segments.map((segment) => `base_${segment}`) as [string, string, string]

/** Three backups, each in a segment of its own, and the WAL of four segments. */
function makeArchive(): MemoryStorage {
  const storage = new MemoryStorage()
  const made = new MadeRecords(segments[0]!, segments.length)
  for (const [index, segment] of segments.entries()) {
    made.add(otherRecord(100))
    if (index < 3) seedBackup(storage, `base_${segment}`, index, made.position)
    made.add(switchRecord)
  }
  for (const [index, segment] of segments.entries()) storage.seed(`wal_005/${segment}`, made.segment(index))
  return storage
}

function seedBackup(storage: MemoryStorage, name: string, index: number, finish: bigint): void {
  const [StartTime, FinishTime] = [0, 30].map((second) =>
    new Date(Date.UTC(2026, 0, 1, 0, index, second)).toISOString(),
  )
  const lsn = BigInt(madeSegmentSize) * BigInt(5 + index)
  const times = { FilesMetadataDisabled: true, StartTime, FinishTime, Version: 2 }
  const text = JSON.stringify(times).replace('{', `{"LSN":${lsn + 40n},"FinishLSN":${finish},`)
  storage.seed(sentinelKey(name), text)
  storage.seed(metadataKey(name), JSON.stringify({ start_time: StartTime }))
  const file = (path: string) => ({ name: path, kind: 'file', content: Buffer.alloc(10) }) as const
  storage.seed(partKey(name, 'part_001.tar'), serverTar([file('/PG_VERSION')]))
  storage.seed(partKey(name, 'pg_control.tar'), serverTar([file('/global/pg_control')]))
}

/** The name that was chosen, or the error. */
async function choose(storage: MemoryStorage, name = 'LATEST', recover = true): Promise<string | WalrxError> {
  const request = { recover, target: undefined, inclusive: true, timeline: 'latest', action: undefined } as const
  try {
    const found = await backupToRestore({
      storage,
      asked: { name, isWhole: true, request: { ...request, restoreCommand: undefined } as never },
      again: (each) => `walrx backup-fetch /data ${each} --recover=true`,
      log: silentLog,
      signal: new AbortController().signal,
    })
    return found.name
  } catch (error) {
    if (error instanceof WalrxError) return error
    throw error
  }
}

async function assertInstead(storage: MemoryStorage, code: string, instead: string, recover?: boolean): Promise<void> {
  const error = await choose(storage, 'LATEST', recover)
  assert.ok(error instanceof WalrxError, String(error))
  assert.equal(error.code, code, error.message)
  const command = `walrx backup-fetch /data ${instead} --recover=true`
  assert.ok(error.hint?.endsWith(`${instead} is the next best, and can be restored: ${command}`), error.hint)
  assert.equal(await choose(storage, instead, recover), instead)
}

describe('LATEST', () => {
  for (const recover of [true, false]) {
    test(`is the backup that began last, recover ${recover}`, async () => {
      assert.equal(await choose(makeArchive(), 'LATEST', recover), newest)
    })

    test(`that has lost a part names the next best, recover ${recover}`, async () => {
      const storage = makeArchive()
      storage.objects.delete(partKey(newest, 'pg_control.tar'))
      await assertInstead(storage, 'WALRX_BACKUP_DAMAGED', older, recover)
      storage.objects.delete(partKey(older, 'part_001.tar'))
      await assertInstead(storage, 'WALRX_BACKUP_DAMAGED', oldest, recover)
    })

    test(`with a damaged sentinel names the next best, recover ${recover}`, async () => {
      const storage = makeArchive()
      storage.seed(sentinelKey(newest), '{')
      await assertInstead(storage, recover ? 'WALRX_OBJECT_DAMAGED' : 'WALRX_BACKUP_DAMAGED', older, recover)
    })
  }

  test('whose WAL has never come names the one that the archive can recover', async () => {
    const storage = makeArchive()
    for (const segment of segments.slice(2)) storage.objects.delete(`wal_005/${segment}`)
    await assertInstead(storage, 'WALRX_TARGET_UNREACHABLE', older)
  })

  test('whose WAL is gone, with later WAL there, names the one before the gap, and how far it goes', async () => {
    const storage = makeArchive()
    storage.objects.delete(`wal_005/${segments[2]}`)
    const error = await choose(storage)
    assert.ok(error instanceof WalrxError)
    assert.match(error.message, new RegExp(`^backup ${newest} starts in segment`))
    const way = `${older} is the next best, and can be restored, but not to the end: the archive has a gap`
    assert.ok(error.hint?.includes(way), error.hint)
    assert.match(error.hint ?? '', /--target-lsn=[0-9A-F/]+$/)
  })

  test('names none where no other can be restored', async () => {
    const storage = makeArchive()
    for (const name of [oldest, older, newest]) storage.objects.delete(partKey(name, 'pg_control.tar'))
    const error = await choose(storage)
    assert.ok(error instanceof WalrxError)
    assert.match(error.message, new RegExp(`^${newest} has no pg_control`))
    assert.doesNotMatch(error.hint ?? '', /next best/)
  })

  test('of an empty archive is refused', async () => {
    const error = await choose(new MemoryStorage())
    assert.equal((error as WalrxError).code, 'WALRX_BACKUP_NOT_FOUND')
  })
})

test('a backup that was asked for by its name is that one or none', async () => {
  const storage = makeArchive()
  storage.objects.delete(partKey(newest, 'pg_control.tar'))
  const error = await choose(storage, newest)
  assert.ok(error instanceof WalrxError)
  assert.doesNotMatch(error.hint ?? '', /next best/)
})
