/**
 * `wal-show` and `wal-verify` print what WAL-G prints of the same archive: those of the golden archives, and made-up ones
 * with holes and a fork. Needs WALG_BIN. Not compared are our additional keys, fractions of the storage's times, and the
 * order of missing segments, of which WAL-G names the last one first.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { Random } from '../harness/random.ts'
import { runWalrx } from '../harness/walrx/walrx-process.ts'

const walg = process.env['WALG_BIN']
const skip = walg === undefined ? 'WALG_BIN names no WAL-G' : false
const golden = fileURLToPath(new URL('../golden', import.meta.url))

/** wal-show's array of both, without what is ours. */
async function shownByBoth(archive: string, ...args: string[]): Promise<[walrx: unknown, walg: unknown]> {
  const ours = await runWalrx(['wal-show', '--detailed-json', ...args, '--file-prefix', archive, '--pg-wal-size', '16'])
  assert.equal(ours.status, 0, ours.stderr)
  const timelines = JSON.parse(ours.stdout) as Record<string, unknown>[]
  for (const timeline of timelines) {
    for (const key of ['durable_lsn', 'written_at', 'stored_bytes', 'restore_windows', 'gaps']) delete timeline[key]
  }
  return [comparable(timelines), comparable(JSON.parse(await runWalg(archive, 'wal-show', '--detailed-json', ...args)))]
}

/** A JSON value with the storage's times in whole seconds, and missing segments in the order of their names. */
function comparable(value: unknown): unknown {
  return JSON.parse(
    JSON.stringify(value, (key, each: unknown) => {
      if (key === 'missing_segments') return (each as string[]).toSorted()
      return key === 'time' ? String(each).slice(0, '2026-03-01T12:00:00'.length) : each
    }),
  )
}

async function runWalg(archive: string, ...args: string[]): Promise<string> {
  const env = { PATH: process.env['PATH'], HOME: archive, WALG_FILE_PREFIX: archive }
  return (await promisify(execFile)(walg ?? '', args, { env, timeout: 60_000 })).stdout
}

/** wal-verify's object of both, without what is ours. */
async function verifiedByBoth(
  archive: string,
  ...args: string[]
): Promise<[walrx: unknown, walg: unknown, status: number]> {
  const words = ['wal-verify', 'integrity', 'timeline', '--json', ...args]
  const ours = await runWalrx([...words, '--file-prefix', archive, '--pg-wal-size', '16'])
  const checks = JSON.parse(ours.stdout) as Record<string, Record<string, unknown>>
  const integrity = checks['integrity'] ?? {}
  for (const key of ['source', 'current_segment', 'durable_lsn', 'first_backup', 'gaps', 'problems'])
    delete integrity[key]
  delete checks['timeline']?.['problems']
  return [checks, JSON.parse(await runWalg(archive, ...words)), ours.status ?? -1]
}

describe('of the golden archives', { skip }, () => {
  test('wal-show is the same, with backups and without', async () => {
    for (const name of ['walg-remote-zstd', 'walg-local-lz4-deltas', 'walrus-remote-zstd']) {
      for (const args of [[], ['--without-backups']]) {
        const [ours, theirs] = await shownByBoth(join(golden, name, 'archive'), ...args)
        assert.deepEqual(ours, theirs, name)
      }
    }
  })

  test('wal-verify is the same, up to a position that is given', async () => {
    for (const name of ['walg-remote-zstd', 'walg-local-lz4-deltas']) {
      const archive = join(golden, name, 'archive')
      const [backup = ''] = (await readdir(join(archive, 'basebackups_005'))).filter((file) => !file.endsWith('.json'))
      for (const args of [[], ['--backup-name', backup]]) {
        const [ours, theirs] = await verifiedByBoth(archive, '--timeline', '1', '--lsn', '0/A000000', ...args)
        assert.deepEqual(ours, theirs, `${name} ${args.join(' ')}`)
      }
    }
  })
})

describe('of made-up archives with holes and a fork', { skip }, () => {
  const base = Number(process.env['WALRX_TEST_SEED'] ?? 4242)
  for (let round = 0; round < 6; round++) {
    test(`both are the same (seed ${base + round})`, async (t) => {
      const random = new Random(base + round)
      const archive = await mkdtemp(join(tmpdir(), 'walrx-reports-'))
      t.after(() => rm(archive, { recursive: true }))
      await mkdir(join(archive, 'wal_005'))
      await mkdir(join(archive, 'basebackups_005'))
      const fork = random.int(4, 10)
      const last = fork + random.int(1, 25)
      const write = (name: string, content = 'x') => writeFile(join(archive, 'wal_005', name), content)
      const file = (timeline: number, segno: number) => `${segmentName(timeline, BigInt(segno), 16 * 1024 * 1024)}.lz4`
      for (let segno = 1; segno <= fork; segno++) if (random.chance(0.9)) await write(file(1, segno))
      for (let segno = fork; segno <= last; segno++) if (random.chance(0.9)) await write(file(2, segno))
      await write('00000002.history', `1\t0/${fork.toString(16)}000098\tno recovery target specified\n`)
      const lsn = `0/${(last + random.int(0, 3)).toString(16)}00A000`
      const [shown, theirs] = await shownByBoth(archive)
      assert.deepEqual(shown, theirs)
      const [verified, theirVerified, status] = await verifiedByBoth(archive, '--timeline', '2', '--lsn', lsn)
      assert.deepEqual(verified, theirVerified)
      // There is no backup.
      assert.equal(status, 5)
    })
  }
})
