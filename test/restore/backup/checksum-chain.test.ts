/** Chains over a switch of data checksums (postgres 724477d67e, barman #963): of any writer. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { readDocuments } from '../../../src/restore/backup/backup-documents.ts'
import { refuseSwitchedChecksums } from '../../../src/restore/backup/checksum-chain.ts'
import { BackupArchive } from '../../../src/walg/backup/backup-archive.ts'
import { madeControl, type ControlVersion } from '../../harness/made/made-control.ts'
import { Random } from '../../harness/random.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { drawChain, storeChain } from './made-chains.ts'

/** Undefined stands for a pg_control that cannot be read. */
type State = 0 | 1 | 2 | 3 | undefined

async function check(states: readonly State[], version: ControlVersion = 1700, seed = 1): Promise<string[]> {
  const random = new Random(seed)
  const chain = drawChain(random, states.length - 1)
  for (const [index, state] of states.entries()) {
    const control = state === undefined ? Buffer.alloc(8192, 7) : madeControl(version, state, index)
    ;(chain.steps[index]!.state as Map<string, Buffer>).set('global/pg_control', control)
  }
  const storage = new MemoryStorage()
  for (const [key, bytes] of storeChain(random, chain)) storage.seed(key, bytes)
  const archive = new BackupArchive(storage)
  const { signal } = new AbortController()
  const names = chain.steps.map(({ name }) => name)
  const documents = await readDocuments(storage, archive, names.at(-1)!, signal)
  try {
    await refuseSwitchedChecksums(archive, documents, { signal })
    return []
  } catch (error) {
    const { code, hint, message } = error as { code: string; hint: string; message: string }
    assert.equal(code, 'WALRX_BACKUP_DAMAGED')
    assert.ok(message.startsWith(`${names.at(-1)} was taken with data_checksums = `), message)
    const named = names.filter((name) => message.includes(` and ${name}, which it builds on`))
    assert.equal(named.length, 1, message)
    assert.ok(hint.startsWith(`restore ${named[0]} instead, with --recover`), hint)
    return [String(names.indexOf(named[0]!))]
  }
}

describe('a chain whose last backup promises checksums', () => {
  for (const version of [960, 1300, 1700, 1800, 1905] as const) {
    test(`is refused where one below has none, in pg_control ${version}`, async () => {
      assert.deepEqual(await check([0, 1], version), ['0'])
      assert.deepEqual(await check([1, 1], version), [])
    })
  }

  test('is refused wherever the one without is, and the newest such is the one to restore', async () => {
    for (let seed = 1; seed <= 5; seed++) {
      assert.deepEqual(await check([0, 0, 1], 1700, seed), ['1'])
      assert.deepEqual(await check([0, 1, 1], 1700, seed), ['0'])
      assert.deepEqual(await check([1, 0, 1], 1700, seed), ['1'])
      assert.deepEqual(await check([1, 0, 0, 1, 1], 1700, seed), ['2'])
    }
  })

  test('is refused where one below was in between', async () => {
    assert.deepEqual(await check([3, 1], 1905), ['0'])
    assert.deepEqual(await check([2, 1], 1905), ['0'])
    assert.deepEqual(await check([0, 2], 1905), ['0'])
  })
})

test('nobody verifies the checksums of a last backup without them: such a chain is sound', async () => {
  for (const states of [
    [0, 0],
    [1, 0],
    [0, 1, 0],
    [1, 0, 1, 0],
    [0, 3],
  ] as const)
    assert.deepEqual(await check(states), [])
})

test('a pg_control that cannot be read refuses nothing here: other checks judge it', async () => {
  assert.deepEqual(await check([undefined, 1]), [])
  assert.deepEqual(await check([0, undefined]), [])
  assert.deepEqual(await check([0, undefined, 1]), ['0'])
})
