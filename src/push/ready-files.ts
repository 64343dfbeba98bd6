/**
 * What waits to be archived, by PostgreSQL's own marks: `pg_wal/archive_status/<name>.ready` (xlogarchive.c,
 * XLogArchiveNotify). A file with such a mark is whole, and does not change any more.
 */
import { access, opendir, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseSegmentName, segmentName, walFileKind } from '../postgres/wal/wal-file.ts'
import { storedAheadMax } from '../walg/wal/segment-archiver.ts'
import { type LocalWalFile, statusPath } from './local-wal.ts'

/** True when the file waits to be archived. */
export async function isReady(path: string): Promise<boolean> {
  return access(statusPath(path, 'ready')).then(
    () => true,
    () => false,
  )
}

/** Marks a file as archived: PostgreSQL then asks for it no more, and may remove or reuse it. */
export async function markDone(path: string): Promise<void> {
  await rename(statusPath(path, 'ready'), statusPath(path, 'done'))
}

/**
 * The files that wait after a segment, in the order in which PostgreSQL will ask for them: first those that follow it
 * without a break, at the price of a lookup each; then, if that were not enough, whatever else waits.
 * @param segment that is archived now
 * @param count of files, at most
 */
export async function* readyAfter(
  segment: LocalWalFile,
  segmentSize: number,
  count: number,
): AsyncGenerator<LocalWalFile, undefined> {
  const id = parseSegmentName(segment.name, segmentSize)
  if (!id) return
  const folder = dirname(segment.path)
  const ahead = Math.min(count, storedAheadMax - 1)
  let found = 0
  for (let segno = id.segno + 1n; found < ahead; segno++) {
    const name = segmentName(id.timeline, segno, segmentSize)
    const path = join(folder, name)
    if (!(await isReady(path))) break
    found++
    yield { path, name, kind: 'segment' }
  }
  if (found >= ahead) return
  const next = segmentName(id.timeline, id.segno + BigInt(found) + 1n, segmentSize)
  const end = segmentName(id.timeline, id.segno + BigInt(storedAheadMax), segmentSize)
  for (const name of await lowest(folder, count - found, (each) => each > segment.name && isWanted(each, next, end))) {
    const kind = walFileKind(name)
    if (kind) yield { path: join(folder, name), name, kind }
  }
}

/** Segments were looked for up to `next`; from `end` on they are too far ahead. Another timeline is not looked into. */
function isWanted(name: string, next: string, end: string): boolean {
  return walFileKind(name) !== 'segment' || (name >= next && name < end && name.slice(0, 8) === next.slice(0, 8))
}

/** The lowest names that wait, at most `count` of them; none where the folder cannot be read. */
async function lowest(folder: string, count: number, isWanted: (name: string) => boolean): Promise<string[]> {
  const names: string[] = []
  try {
    for await (const entry of await opendir(join(folder, 'archive_status'), { bufferSize: 1024 })) {
      if (!entry.name.endsWith('.ready')) continue
      const name = entry.name.slice(0, -'.ready'.length)
      if (walFileKind(name) === undefined || !isWanted(name)) continue
      names.push(name)
      if (names.length >= 2 * count + 64) names.sort().splice(count)
    }
  } catch {
    // A path of another program, or no right to look: nothing is archived ahead.
  }
  return names.sort().slice(0, count)
}
