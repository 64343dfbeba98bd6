/** Checks the archive of the demo independently of walrx: its content, and whether it equals the server's WAL. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { codecOfExtension } from '../src/compression/codecs.ts'
import { addBytes, type Lsn, toLsn } from '../src/postgres/lsn.ts'
import { parseSegmentName, segmentStartLsn } from '../src/postgres/wal/wal-file.ts'

/** Bytes of a segment in the demo. */
export const segmentBytes = 16 * 1024 * 1024

/** The content of an archive. */
export interface ArchiveContents {
  /** Names of the segments' objects, in order. */
  readonly objects: readonly string[]
  readonly storedBytes: number
  /** One past the last byte of the unbroken run of segments from the first one on. */
  readonly endLsn: Lsn
}

/** Lists the segments in a directory archive. */
export async function readArchive(archive: string): Promise<ArchiveContents> {
  const directory = join(archive, 'wal_005')
  const objects = (await readdir(directory)).filter((name) => /^[0-9A-F]{24}(\.[a-z0-9]+)?$/.test(name)).sort()
  const sizes = await Promise.all(objects.map(async (name) => (await stat(join(directory, name))).size))
  let endLsn: Lsn | undefined
  for (const object of objects) {
    const id = parseSegmentName(object.slice(0, 24), segmentBytes)
    if (!id) continue
    const startLsn = segmentStartLsn(id, segmentBytes)
    if (endLsn !== undefined && startLsn !== endLsn) break
    endLsn = addBytes(startLsn, segmentBytes)
  }
  return { objects, storedBytes: sizes.reduce((sum, size) => sum + size, 0), endLsn: endLsn ?? toLsn(0n) }
}

/**
 * Compares archived segments with those that a server still has.
 * @returns how many were compared, and the names of those that differ
 */
export async function compareWithServer(
  archive: string,
  objects: readonly string[],
  pgWal: string,
): Promise<{ readonly compared: number; readonly different: readonly string[] }> {
  const there = new Set(await readdir(pgWal))
  const different: string[] = []
  let compared = 0
  for (const object of objects) {
    const segment = object.slice(0, 24)
    if (!there.has(segment)) continue
    compared++
    const decoder = codecOfExtension(object.slice(25), object).decoder()
    decoder.end(await readFile(join(archive, 'wal_005', object)))
    if (!(await buffer(decoder)).equals(await readFile(join(pgWal, segment)))) different.push(segment)
  }
  return { compared, different }
}
