/**
 * The commands of docs/from-walg.md, run as they stand there while the server is written to: from WAL-G and WAL-RUS to
 * walrx and back, from their `archive_command` and from their `wal-receive`, in a directory and in a bucket. What walrx
 * restores at the end of the way, and what they restore at the end of the way back, is all that the server had. Runs where
 * WALG_BIN and WALRUS_BIN name their programs, and psql is there.
 */
import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import { until } from '../../harness/time/until.ts'
import { type Former, type MovingOptions, type MovingWorld, startMovingWorld } from './moving-world.ts'
import { startVersitygw } from './versitygw.ts'
import { blocksUnder, readShellBlocks, type ShellBlock } from './page-steps.ts'

const programs: Readonly<Record<Former, string | undefined>> = {
  'wal-g': process.env['WALG_BIN'],
  'wal-rus': process.env['WALRUS_BIN'],
}
const psql = await clientTool('psql', 15)

function skipOf(former: Former): string | false {
  if (psql === undefined) return 'no psql given'
  return programs[former] === undefined && `no program of ${former} given`
}

const archivedCount = '(select archived_count from pg_stat_archiver)'

type Options = Omit<MovingOptions, 'binary'>

const start = (options: Options) => startMovingWorld({ ...options, binary: programs[options.former] ?? '' })

/** The blocks of a heading, each in a variable of its own. */
const [read, receive, compare, back, prove, endProof, leave, push] = blocksUnder('From `archive_command`', 8) as Eight
const [pushAgain, leaveWalrx, proveThere, endProofThere] = blocksUnder('Back to `archive_command`', 4) as Four
const [beside, stopFormer, dropFormer, waitForSlot, takeSlot] = blocksUnder('From `wal-receive`', 5) as Five
const [receiveAgain, leaveReceiver, giveSlotBack] = blocksUnder('Back to `wal-receive`', 3) as Four

type Four = [ShellBlock, ShellBlock, ShellBlock, ShellBlock]
type Five = [ShellBlock, ...Four]
type Eight = [...Four, ...Four]

test('every block of the page is run below', () => {
  assert.equal(readShellBlocks().length, 20)
})

/** Runs the restore of the page with the server at rest, and compares it with the server. */
async function proveAll(world: MovingWorld, restore: ShellBlock, end: ShellBlock): Promise<void> {
  const expected = await world.rest()
  await world.archived()
  await world.run(restore)
  assert.equal(await world.proven(), expected)
  await world.run(end)
}

async function byCommand(options: Options, takeOver: ShellBlock): Promise<void> {
  await using world = await start({ ...options })
  await world.run(read)
  await world.run(receive)
  await world.run(compare)
  const backed = await world.run(back)
  // The newest segments may be on their way.
  assert.match(backed, /^\[wal-verify\] integrity check status: (OK|WARNING)$/m)
  await world.run(prove)
  await world.proven()
  await world.run(endProof)
  await world.run(takeOver)
  await proveAll(world, prove, endProof)

  await world.write()
  const before = await world.query(archivedCount)
  await world.run(pushAgain)
  await until('WAL-G to archive', async () => {
    return Number(await world.query(archivedCount)) > Number(before)
  })
  await world.run(leaveWalrx)
  assert.equal(await world.query('(select count(*) from pg_replication_slots)'), '0')
  await proveAll(world, proveThere, endProofThere)
  assert.equal(await world.query('(select failed_count from pg_stat_archiver)'), '0')
}

for (const { takeOver, ...options } of [
  { former: 'wal-g', by: 'archive_command', major: 17, takeOver: leave },
  { former: 'wal-rus', by: 'archive_command', major: 15, takeOver: push },
] as const) {
  const { former, major } = options
  test(
    `from archive_command of ${former} and back, PostgreSQL ${major}`,
    { skip: skipOf(former), timeout: 400_000 },
    () => byCommand(options, takeOver),
  )
}

/** Moves a receiver to walrx, by the block that says how, and back. */
async function byReceiver(options: Options, move: () => readonly ShellBlock[]): Promise<void> {
  await using world = await start(options)
  for (const block of move()) await world.run(block)
  await proveAll(world, prove, endProof)

  await world.write()
  await world.run(receiveAgain)
  if (options.former === 'wal-g') {
    // As the page says: when the slot is active and has a position.
    const isReady =
      "(select count(*) from pg_replication_slots where slot_name = 'walg' and active and restart_lsn is not null)"
    await until('the slot of WAL-G to be in use', async () => (await world.query(isReady)) === '1')
  } else await world.streaming(2)
  await world.run(leaveReceiver)
  await proveAll(world, proveThere, endProofThere)
}

test(
  'from wal-receive of wal-g and back, each with a slot of its own',
  { skip: skipOf('wal-g'), timeout: 400_000 },
  () => byReceiver({ former: 'wal-g', by: 'wal-receive', major: 17 }, () => [beside, stopFormer, dropFormer]),
)

test('from wal-receive of wal-g to walrx in the same slot', { skip: skipOf('wal-g'), timeout: 400_000 }, async () => {
  await using world = await start({
    former: 'wal-g',
    by: 'wal-receive',
    major: 15,
    receiverFlags: ['--slotname', 'walg'],
  })
  await world.run(waitForSlot)
  await until('walrx to wait for the slot', async () => /slot is in use/.test(await world.logOf('walrx@db1')))
  await world.run(takeSlot)
  await proveAll(world, prove, endProof)
  await world.write()
  await world.run(giveSlotBack)
  await proveAll(world, proveThere, endProofThere)
})

const rusSkip = skipOf('wal-rus') || (process.env['VERSITYGW_BIN'] === undefined && 'no program of versitygw given')

test(
  'from wal-receive of wal-rus in a bucket, without a slot, and back',
  { skip: rusSkip, timeout: 400_000 },
  async () => {
    await using store = await startVersitygw(process.env['VERSITYGW_BIN'] ?? '')
    const options = { former: 'wal-rus', by: 'wal-receive', major: 17, storage: store.settings } as const
    await byReceiver(options, () => [beside, stopFormer])
  },
)
