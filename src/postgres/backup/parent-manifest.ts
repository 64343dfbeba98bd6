/**
 * Builds a manifest for UPLOAD_MANIFEST from a backup's file names and LSNs. The server uses only three things of a
 * manifest (src/backend/backup/basebackup_incremental.c): the system identifier, the WAL ranges, from which it takes
 * the start of the changes, and the paths: it sends a file that is not among them whole. It ignores sizes and
 * checksums.
 */
import { createHash } from 'node:crypto'
import { formatLsn, type Lsn, type Timeline } from '../lsn.ts'

/** The backup that an increment builds on. */
export interface ParentManifest {
  readonly systemId: bigint
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly finishLsn: Lsn
  /** Files that the server may send as increments, relative to the data directory, without a leading slash. */
  readonly paths: Iterable<string>
}

/** Characters that are encoded at a time. */
const pieceCharacters = 64 * 1024

/** The manifest's bytes, in blocks of about 64 KiB. Paths must be ASCII, as those of relations are. */
export function* encodeParentManifest(manifest: ParentManifest): Generator<Buffer, undefined> {
  const hash = createHash('sha256')
  let text = ''
  for (const line of lines(manifest)) {
    text += line
    if (text.length < pieceCharacters) continue
    const piece = Buffer.from(text)
    hash.update(piece)
    text = ''
    yield piece
  }
  const sum = hash.update(text).digest('hex')
  yield Buffer.from(`${text}"Manifest-Checksum": "${sum}"}\n`)
}

/** Everything that the checksum covers. */
function* lines({ finishLsn, paths, startLsn, systemId, timeline }: ParentManifest): Generator<string, undefined> {
  yield `{ "PostgreSQL-Backup-Manifest-Version": 2,\n"System-Identifier": ${systemId},\n"Files": [`
  let before = '\n'
  for (const path of paths) {
    yield `${before}{ "Path": ${JSON.stringify(path)}, "Size": 0 }`
    before = ',\n'
  }
  const range = `"Timeline": ${timeline}, "Start-LSN": "${formatLsn(startLsn)}", "End-LSN": "${formatLsn(finishLsn)}"`
  yield `\n],\n"WAL-Ranges": [\n{ ${range} }\n],\n`
}
