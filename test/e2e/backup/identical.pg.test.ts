/** Archived segments are the server's own, byte for byte, for every major version and segment size. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { parseLsn } from '../../../src/postgres/lsn.ts'
import {
  archivedSegments,
  assertUnbroken,
  compareWithServer,
  endOfSwitched,
  watchFlushes,
} from '../../harness/store/archive-check.ts'
import { isFullRun, isInDepth, withNext } from '../../harness/extent.ts'
import { majorSkip, nextMajor, pgMajors, startPostgres } from '../../harness/postgres/postgres.ts'
import { startWalrx } from '../../harness/walrx/walrx-process.ts'
import { generateWal } from '../../harness/made/wal-load.ts'
import { WireTap } from '../../harness/postgres/wire-tap.ts'

const MiB = 1024 * 1024

/**
 * Segment switches by size: many where a segment is small, fewer where each is a file of 64 MB. WALRX_TEST_SWITCHES sets
 * another number for all sizes: 300 of 64 MB want 40 GB of disk for each server.
 */
const switches = new Map(
  [[1, isFullRun ? 300 : 40] as const, [16, isFullRun ? 40 : 6] as const, [64, isFullRun ? 8 : 3] as const].map(
    ([size, count]) => [size, Number(process.env['WALRX_TEST_SWITCHES'] ?? count)],
  ),
)

describe('an archive is identical to pg_wal', () => {
  for (const major of withNext(pgMajors)) {
    for (const [segmentSizeMb, count] of switches) {
      // What a size changes is arithmetic of ours, the same for all versions.
      if (
        !isInDepth(major) ||
        (!isFullRun && segmentSizeMb === 64 && major !== 18) ||
        (major === nextMajor && segmentSizeMb !== 16)
      )
        continue
      test(
        `PostgreSQL ${major}, segments of ${segmentSizeMb} MB, ${count} switches`,
        { timeout: 180_000 + count * segmentSizeMb * 50, skip: majorSkip(major) },
        async () => {
          const segmentSize = segmentSizeMb * MiB
          await using server = await startPostgres({
            major,
            segmentSizeMb: segmentSizeMb as 1 | 16 | 64,
            settings: { wal_keep_size: '60GB', max_wal_size: '60GB', checkpoint_timeout: '1h' },
          })
          await using tap = await WireTap.open({ host: '127.0.0.1', port: server.port })
          const archive = mkdtempSync(join(tmpdir(), 'walrx-identical-'))
          try {
            watchFlushes(tap, archive, () => 1, segmentSize)
            const conninfo = `${server.conninfo()} port=${tap.port}`
            const args = ['wal-receive', '--file-prefix', archive, '--dbname', conninfo]
            await using receiver = startWalrx(args)
            await receiver.logged('streaming')
            await generateWal(server, { segments: 3, fill: 'full' })
            await generateWal(server, { segments: count })
            const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
            await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
            await tap.flushed(end)
            const { status } = await receiver.stop()
            assert.equal(status, 0, 'SIGTERM drains and ends with 0')
            assert.deepEqual(tap.failures, [], 'a flush position was ahead of the archive')
            assertUnbroken(archive, 1, end, segmentSize)
            assert.equal(compareWithServer(archive, server), archivedSegments(archive).length)
            const [slot] = await server.sql<{ restart_lsn: string }>(
              `select restart_lsn::text from pg_replication_slots where slot_name = 'walrx'`,
            )
            assert.ok(parseLsn(slot?.restart_lsn ?? '') >= end, 'the slot did not follow')
          } finally {
            rmSync(archive, { recursive: true, force: true })
          }
        },
      )
    }
  }
})
