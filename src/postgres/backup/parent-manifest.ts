/**
 * The manifest that UPLOAD_MANIFEST takes, made for a backup of which only its files and positions are known. Of a
 * manifest the server goes by three things alone (src/backend/backup/basebackup_incremental.c): the system identifier,
 * the WAL ranges, which say since when blocks count as changed, and the paths: a file that is not among them is sent
 * whole. Sizes and checksums of files it does not look at.
 */
import { createHash } from 'node:crypto'
import { formatLsn, type Lsn, type Timeline } from '../lsn.ts'

/** What the backup is that an increment is to build on. */
export interface ParentManifest {
  readonly systemId: bigint
  readonly timeline: Timeline
  readonly startLsn: Lsn
  readonly finishLsn: Lsn
  /** Files that the server may send as increments, relative to the data directory, without a leading slash. */
  readonly paths: Iterable<string>
}

/** Characters that are encoded at once. */
const pieceCharacters = 64 * 1024

/** The manifest's bytes, in pieces of about 64 KiB. Paths must be ASCII, as those of relations are. */
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

/** Everything that the checksum is over. */
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
