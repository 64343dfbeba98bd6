import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { chooseParent, type DeltaRules, relationPaths } from '../../../src/backup/delta/parent-choice.ts'
import { silentLog } from '../../../src/observe/log.ts'
import type { ChecksumState } from '../../../src/postgres/control-file.ts'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import type { Lsn } from '../../../src/postgres/lsn.ts'
import { BackupArchive } from '../../../src/walg/backup/backup-archive.ts'
import { metadataOf } from '../../../src/walg/backup/backup-metadata.ts'
import { filesMetadataKey, metadataKey, partKey, sentinelKey } from '../../../src/walg/backup/backup-names.ts'
import type { FileRecord } from '../../../src/walg/backup/files-metadata.ts'
import type { DeltaOrigin, Sentinel } from '../../../src/walg/backup/sentinel.ts'
import { madeControl } from '../../harness/made/made-control.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { serverTar } from '../parts/tars.ts'

const systemId = 7455523487659893045n
const nameOf = (number: number) => `base_00000001000000000000000${number}`
const lsnOf = (number: number) => parseLsn(`0/${number}000028`)
const rules: DeltaRules = { full: false, maxSteps: 5, origin: 'LATEST', fromName: undefined, fromUserData: undefined }
const record: FileRecord = { isIncremented: false, isSkipped: false, mtime: '2026-01-01T00:00:00Z' }

function sentinelOf(number: number, more: Partial<Sentinel> = {}): Sentinel {
  return {
    startLsn: lsnOf(number),
    delta: undefined,
    pgVersion: 170_010,
    finishLsn: parseLsn(`0/${number}000100`),
    systemIdentifier: systemId,
    uncompressedSize: 1,
    compressedSize: 1,
    dataCatalogSize: 0,
    spec: undefined,
    userData: undefined,
    filesMetadataDisabled: false,
    version: 2,
    startTime: `2026-01-01T00:00:0${number}Z`,
    finishTime: `2026-01-01T00:00:0${number}Z`,
    hostname: 'h',
    dataDir: '/d',
    isPermanent: false,
    extra: {},
    ...more,
  }
}

function deltaOf(parent: string, count: number, full = nameOf(1)): DeltaOrigin {
  return { parentName: parent, parentLsn: 1n as Lsn, fullName: full, count, incrementFormat: undefined }
}

/** Backups as WAL-G leaves them. */
class Archive {
  readonly storage = new MemoryStorage()
  readonly archive = new BackupArchive(this.storage)

  async add(name: string, sentinel: Sentinel, names: readonly string[] = ['/base/5/1', '/PG_VERSION']): Promise<this> {
    const files = new Map(names.map((each) => [each, record]))
    await this.archive.putFilesMetadata(name, { files, tarFileSets: new Map([['part_001.tar.zst', names]]) })
    await this.archive.putMetadata(name, metadataOf(sentinel))
    for (const part of ['part_001.tar.zst', 'pg_control.tar.zst']) this.storage.seed(partKey(name, part), 'x')
    await this.archive.putSentinel(name, sentinel)
    return this
  }

  /** Writes pg_control. @param checksums 0 off, 1 on, 2 and 3 in between */
  control(name: string, checksums: number): this {
    const file = { name: '/global/pg_control', kind: 'file', content: madeControl(1905, checksums) } as const
    this.storage.objects.delete(partKey(name, 'pg_control.tar.zst'))
    this.storage.seed(partKey(name, 'pg_control.tar'), serverTar([file]))
    return this
  }

  choose(more: Partial<DeltaRules> = {}, isPermanent = false, checksums: ChecksumState = 'off') {
    const all = { ...rules, ...more }
    return chooseParent(
      this.archive,
      all,
      isPermanent,
      { systemId, checksums },
      silentLog,
      new AbortController().signal,
    )
  }

  /** The reason, which there must be. */
  async reason(more: Partial<DeltaRules> = {}, isPermanent = false, checksums?: ChecksumState): Promise<string> {
    const { full, parent } = await this.choose(more, isPermanent, checksums)
    return full ? `${full.code}: ${full.message}` : assert.fail(`${parent.name} is no reason`)
  }
}

/** A full backup, and two deltas in a row. */
async function chain(): Promise<Archive> {
  const archive = new Archive()
  await archive.add(nameOf(1), sentinelOf(1))
  await archive.add(`${nameOf(2)}_D_x`, sentinelOf(2, { delta: deltaOf(nameOf(1), 1) }))
  return archive.add(
    `${nameOf(3)}_D_000000010000000000000002`,
    sentinelOf(3, { delta: deltaOf(`${nameOf(2)}_D_x`, 2) }),
  )
}

describe('a delta builds on', () => {
  test('the newest backup, one step further than it', async () => {
    const { parent } = await (await chain()).choose()
    assert.deepEqual([parent?.name, parent?.count], [`${nameOf(3)}_D_000000010000000000000002`, 3])
    assert.deepEqual([parent?.fullName, parent?.timeline, parent?.prefix], [nameOf(1), 1, '/'])
    assert.deepEqual([parent?.startLsn, parent?.finishLsn], [lsnOf(3), parseLsn('0/3000100')])
    assert.deepEqual(
      [parent?.has('/base/5/1'), parent?.has('base/5/1'), parent?.has('/base/5/2')],
      [true, false, false],
    )
  })

  test('the full one of its chain, counted as if on the newest', async () => {
    const { parent } = await (await chain()).choose({ origin: 'LATEST_FULL' })
    assert.deepEqual([parent?.name, parent?.count, parent?.fullName], [nameOf(1), 3, nameOf(1)])
  })

  test('nothing where what it would build on cannot be restored, at whatever distance', async () => {
    const archive = await chain()
    assert.ok((await archive.choose()).parent)
    archive.storage.seed(partKey(nameOf(1), 'part_001.tar.zst'), '')
    const newest = `${nameOf(3)}_D_000000010000000000000002`
    assert.equal(await archive.reason(), `parent: ${newest} cannot be built on: ${nameOf(1)} has a part of 0 bytes`)
  })

  test('the one that is named, or kept with these data', async () => {
    const archive = await chain()
    assert.equal((await archive.choose({ fromName: nameOf(1) })).parent?.name, nameOf(1))
    await assert.rejects(archive.choose({ fromName: nameOf(9) }), { code: 'WALRX_BACKUP_NOT_FOUND' })
    await archive.add(nameOf(4), sentinelOf(4, { userData: { job: ['a', 1] } }))
    await archive.add(nameOf(5), sentinelOf(5))
    assert.equal((await archive.choose({ fromUserData: { job: ['a', 1] } })).parent?.name, nameOf(4))
    assert.match(await archive.reason({ fromUserData: { job: ['a', 2] } }), /^no-backup: /)
    await archive.add(nameOf(6), sentinelOf(6, { userData: { job: ['a', 1] } }))
    await assert.rejects(archive.choose({ fromUserData: { job: ['a', 1] } }), {
      code: 'WALRX_USAGE',
      message: /2 backups/,
    })
  })

  test('a permanent one only if it is to be permanent too, or on the full one', async () => {
    const archive = await new Archive().add(nameOf(1), sentinelOf(1, { isPermanent: true }))
    assert.match(await archive.reason(), /^permanent: /)
    assert.equal((await archive.choose({}, true)).parent?.name, nameOf(1))
    assert.equal((await archive.choose({ origin: 'LATEST_FULL' })).parent?.name, nameOf(1))
  })
})

describe('a full backup is taken', () => {
  test('where it is asked for, deltas are not, or there is nothing to build on', async () => {
    const archive = new Archive()
    assert.match(await archive.reason(), /^no-backup: /)
    await archive.add(nameOf(1), sentinelOf(1))
    assert.match(await archive.reason({ full: true }), /^asked: /)
    assert.match(await archive.reason({ maxSteps: 0 }), /^off: .*WALG_DELTA_MAX_STEPS/)
  })

  test('when the chain is long enough', async () => {
    assert.match(await (await chain()).reason({ maxSteps: 2 }), /^steps: .* 2 steps away .*, and 2 are allowed$/)
    assert.ok((await (await chain()).choose({ maxSteps: 3 })).parent)
  })

  const unfit: readonly (readonly [string, Partial<Sentinel>, RegExp])[] = [
    ['of another cluster', { systemIdentifier: 5n }, /is of cluster 5, and the server's is 7455523487659893045/],
    ['of an unknown cluster', { systemIdentifier: undefined }, /has no system identifier/],
    ['without a start', { startLsn: undefined }, /does not say where it starts/],
    ['without an end', { finishLsn: undefined }, /does not say where it ends/],
    ['that ends before it starts', { finishLsn: parseLsn('0/1') }, /starts at 0\/1000028 and ends at 0\/1/],
    [
      'with a parent that is gone',
      { delta: deltaOf(nameOf(7), 1) },
      /there is no backup base_000000010000000000000007/,
    ],
    ['that is its own ancestor', { delta: deltaOf(nameOf(1), 1) }, /more than 64 ancestors/],
    [
      "of PostgreSQL's own increments",
      { delta: { ...deltaOf(nameOf(1), 1), incrementFormat: 'native' } },
      /"native" increments .*, which WAL-G cannot restore/,
    ],
  ]
  for (const [what, more, words] of unfit) {
    test(`where the newest is one ${what}`, async () => {
      const reason = await (await new Archive().add(nameOf(1), sentinelOf(1, more))).reason()
      assert.match(reason, /^parent: /)
      assert.match(reason, words)
    })
  }

  const damage: readonly (readonly [string, (storage: MemoryStorage, name: string) => void, RegExp])[] = [
    [
      'its table of files',
      (storage, name) => storage.objects.delete(filesMetadataKey(name)),
      /has no table of its files/,
    ],
    ['its metadata.json', (storage, name) => storage.objects.delete(metadataKey(name)), /metadata\.json is missing/],
    ['a part', (storage, name) => storage.objects.delete(partKey(name, 'part_001.tar.zst')), /has no parts/],
    [
      'pg_control',
      (storage, name) => storage.objects.delete(partKey(name, 'pg_control.tar.zst')),
      /no pg_control\.tar/,
    ],
    ['a sentinel that can be read', (storage, name) => storage.seed(sentinelKey(name), '{'), /is not JSON/],
  ]
  for (const [what, lose, words] of damage) {
    test(`where the newest has lost ${what}`, async () => {
      const archive = await new Archive().add(nameOf(1), sentinelOf(1))
      lose(archive.storage, nameOf(1))
      const reason = await archive.reason()
      assert.match(reason, /^parent: base_000000010000000000000001 cannot be built on/)
      assert.match(reason, words)
    })
  }

  test('where one of several parts is gone, or no relation is in the table', async () => {
    const archive = await new Archive().add(nameOf(1), sentinelOf(1))
    archive.storage.seed(partKey(nameOf(1), 'part_002.tar.zst'), 'x')
    archive.storage.objects.delete(partKey(nameOf(1), 'part_001.tar.zst'))
    assert.match(await archive.reason(), /lacks part_001\.tar\.zst/)
    const bare = await new Archive().add(nameOf(1), sentinelOf(1), ['/PG_VERSION', '/global/1260'])
    assert.match(await bare.reason(), /no relation/)
  })
})

describe('data checksums (postgres 724477d67e, barman #963)', () => {
  const second = `${nameOf(2)}_D_x`
  const third = `${nameOf(3)}_D_000000010000000000000002`

  /** The chain, with these numbers in its pg_controls. */
  async function withStates(...states: readonly number[]): Promise<Archive> {
    const archive = await chain()
    for (const [index, name] of [nameOf(1), second, third].entries()) archive.control(name, states[index]!)
    return archive
  }

  test('a server with checksums builds on backups with checksums only, down to the full one', async () => {
    assert.ok((await (await withStates(1, 1, 1)).choose({}, false, 'on')).parent)
    const words = /^checksums: (\S+) was taken with data_checksums = off, and the server has on: pages that have not/
    assert.match(await (await withStates(1, 1, 0)).reason({}, false, 'on'), words)
    const below =
      /^checksums: (\S+), which (\S+) builds on, was taken with data_checksums = (\S+), and the server has (\S+):/
    const found = async (states: readonly number[], server: ChecksumState) =>
      below.exec(await (await withStates(...states)).reason({}, false, server))?.slice(1)
    assert.deepEqual(await found([0, 1, 1], 'on'), [nameOf(1), third, 'off', 'on'])
    assert.deepEqual(await found([1, 0, 1], 'on'), [second, third, 'off', 'on'])
    assert.deepEqual(await found([1, 3, 1], 'on'), [second, third, 'inprogress-on', 'on'])
    assert.deepEqual(await found([1, 2, 1], 'on'), [second, third, 'inprogress-off', 'on'])
    assert.deepEqual(await found([0, 1, 1], 'inprogress-on'), [nameOf(1), third, 'off', 'inprogress-on'])
  })

  test('only the backup that is built on counts, not newer ones', async () => {
    const archive = await withStates(1, 0, 0)
    assert.equal((await archive.choose({ origin: 'LATEST_FULL' }, false, 'on')).parent?.name, nameOf(1))
  })

  test('a server without checksums builds on any', async () => {
    for (const states of [
      [0, 0, 0],
      [1, 1, 1],
      [0, 1, 0],
    ])
      assert.ok((await (await withStates(...states)).choose({}, false, 'off')).parent)
  })

  test('a pg_control that shows nothing is no promise', async () => {
    assert.match(await (await chain()).reason({}, false, 'on'), /^checksums: .* has a pg_control that does not show/)
  })
})

test('of the names of entries only main forks count, in the spelling of the first', () => {
  const names = [
    'PG_VERSION',
    'global/1262',
    'base/5/1259',
    'base/5/1259_fsm',
    'base/5/1259_vm',
    'base/5/16400_init',
    'base/5/t3_16401',
    'base/5/1259.1',
    'base/5/pg_filenode.map',
    'base/5/INCREMENTAL.1259',
    'pg_tblspc/16385/PG_17_202406281/5/16386',
    '/base/5/1260',
  ]
  const { paths, prefix } = relationPaths(names)
  assert.equal(prefix, '')
  assert.deepEqual([...paths], ['base/5/1259', 'base/5/1259.1', 'pg_tblspc/16385/PG_17_202406281/5/16386'])
  assert.deepEqual(relationPaths(['/base/5/1', 'base/5/2']), { paths: new Set(['base/5/1']), prefix: '/' })
})
