/**
 * Checks of the end-to-end tests on an archive in a directory: against the server's own pg_wal, and every flush
 * position.
 */
import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { brotliDecompressSync, zstdDecompressSync } from 'node:zlib'
import { addBytes, formatLsn, type Lsn, parseLsn, segmentStart } from '../../../src/postgres/lsn.ts'
import { isSegmentName, parseSegmentName, segmentNameAt } from '../../../src/postgres/wal/wal-file.ts'
import { isTempName } from '../../../src/storage/temp-name.ts'
import type { TestPostgres } from '../postgres/postgres.ts'
import type { WireTap } from '../postgres/wire-tap.ts'

/** Keys of all objects of an archive, while its receiver adds and removes some: a folder may go before it is listed. */
export function archivedKeys(archive: string): string[] {
  for (;;) {
    try {
      return readdirSync(archive, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile() && !isTempName(entry.name))
        .map(({ name, parentPath }) => relative(archive, join(parentPath, name)))
        .sort()
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || !existsSync(archive)) throw error
    }
  }
}

/** Objects of `wal_005` that are whole segments, without their extension, in order. */
export function archivedSegments(archive: string): string[] {
  const folder = join(archive, 'wal_005')
  if (!existsSync(folder)) return []
  const names = readdirSync(folder).map((file) => file.replace(/\.(zst|lz4|br)$/, ''))
  return names.filter(isSegmentName).sort()
}

/** The decoded bytes of an archived WAL file (zstd, brotli or none). */
export function decodeArchived(archive: string, name: string): Buffer {
  const path = join(archive, 'wal_005', name)
  if (existsSync(`${path}.zst`)) return zstdDecompressSync(readFileSync(`${path}.zst`))
  if (existsSync(`${path}.br`)) return brotliDecompressSync(readFileSync(`${path}.br`))
  return readFileSync(path)
}

/** Every archived segment is byte for byte the server's own; returns how many were compared. */
export function compareWithServer(archive: string, server: TestPostgres): number {
  let compared = 0
  for (const name of archivedSegments(archive)) {
    const own = join(server.pgWal(), name)
    if (!existsSync(own)) continue
    assert.ok(decodeArchived(archive, name).equals(readFileSync(own)), `${name} differs from the server's`)
    compared++
  }
  return compared
}

/** End of the segment in which WAL was switched away from: `pg_switch_wal` answers the end of its last record. */
export function endOfSwitched(lsn: Lsn, segmentSize: number): Lsn {
  return addBytes(segmentStart(addBytes(lsn, -1), segmentSize), segmentSize)
}

/** All segments of a timeline from its first archived one up to `end` are there. */
export function assertUnbroken(archive: string, timeline: number, end: Lsn, segmentSize: number): void {
  const last = segmentNameAt(timeline, addBytes(end, -1), segmentSize)
  const present = archivedSegments(archive).filter((name) => name.slice(0, 8) === last.slice(0, 8))
  assert.ok(present.includes(last), `${last} is missing`)
  const numbers = present.map((name) => parseSegmentName(name, segmentSize)?.segno ?? 0n)
  numbers.slice(1).forEach((segno, index) => {
    assert.equal(segno, (numbers[index] ?? 0n) + 1n, `a segment is missing before ${present[index + 1]}`)
  })
}

/**
 * Switches WAL and waits until everything before is durable: whole, unbroken on timeline 1, and what the server has.
 */
export async function proveArchive(
  archive: string,
  server: TestPostgres,
  tap: WireTap,
  segmentSize: number,
): Promise<void> {
  const end = endOfSwitched(parseLsn(await server.switchWal()), segmentSize)
  await server.sql(`select pg_logical_emit_message(false, 'walrx', 'one more')`)
  await tap.flushed(end)
  assert.deepEqual(tap.failures, [], 'a flush position was ahead of the archive')
  assertUnbroken(archive, 1, end, segmentSize)
  assert.ok(compareWithServer(archive, server) > 0)
}

/**
 * Makes the tap compare every flush position with the directory, at the moment it passes by: each segment from the
 * first flush's predecessor on must be there already.
 */
export function watchFlushes(tap: WireTap, archive: string, timeline: () => number, segmentSize: number): void {
  let checkedUpTo: Lsn | undefined
  tap.onStatus = ({ write, flush, apply }) => {
    assert.equal(apply, 0n, 'apply was reported')
    if (flush === 0n) return
    assert.ok(write >= flush, 'flush is ahead of write')
    assert.equal(segmentStart(flush, segmentSize), flush, `flush ${formatLsn(flush)} is not the end of a segment`)
    let lsn = checkedUpTo ?? addBytes(flush, -segmentSize)
    for (; lsn < flush; lsn = addBytes(lsn, segmentSize)) {
      const name = segmentNameAt(timeline(), lsn, segmentSize)
      const path = join(archive, 'wal_005', name)
      assert.ok(
        ['.zst', '.lz4', '.br', ''].some((extension) => existsSync(path + extension)),
        `flush ${formatLsn(flush)} was sent, but ${name} is not in the archive`,
      )
    }
    checkedUpTo = flush
  }
}
