/**
 * Whether the pages of a backup have checksums, by its pg_control. An increment holds the pages that have changed, and
 * pg_checksums changes all of them without a trace in the WAL: on a backup without checksums, one with checksums leaves
 * pages without.
 */
import { hasCode } from '../../primitives/errors.ts'
import { type ChecksumState, parseChecksumState } from '../../postgres/control-file.ts'
import type { StorageCallOptions } from '../../storage/storage.ts'
import type { BackupArchive, BackupPart } from './backup-archive.ts'
import { tarEntries } from './tar/tar-entries.ts'

/** A backup with what its pg_control says; undefined where that cannot be read. */
export interface BackupChecksums {
  readonly name: string
  readonly state: ChecksumState | undefined
}

/**
 * Reads pg_control of a backup, from the part that every tool gives it.
 * @param parts of the backup
 * @returns undefined where it is not there, or cannot be read
 * @throws what the storage throws
 */
export async function readChecksumState(
  archive: BackupArchive,
  parts: readonly BackupPart[],
  options?: StorageCallOptions,
): Promise<ChecksumState | undefined> {
  const part = parts.find(({ kind }) => kind === 'control')
  if (!part) return undefined
  try {
    const pieces = inPieces(await archive.openPart(part, options))
    for await (const { body, name } of tarEntries(pieces, part.key)) {
      if (name.endsWith('global/pg_control')) return parseChecksumState(await readStart(body))
    }
  } catch (error) {
    const isUnreadable = ['WALRX_OBJECT_DAMAGED', 'WALRX_OBJECT_NOT_FOUND', 'WALRX_CODEC_UNSUPPORTED'] as const
    if (!isUnreadable.some((code) => hasCode(error, code))) throw error
  }
  return undefined
}

/** More than pg_control has in any version. */
const controlBytesMax = 64 * 1024

async function readStart(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of body) {
    chunks.push(Buffer.from(chunk))
    bytes += chunk.length
    if (bytes > controlBytesMax) break
  }
  return Buffer.concat(chunks)
}

async function* inPieces(chunks: AsyncIterable<Uint8Array>) {
  for await (const chunk of chunks) yield { bytes: chunk, free: () => {} }
}

/**
 * The backup of a chain that lacks checksums which the last one promises.
 * @param chain the full backup first
 * @returns the newest such; undefined where there is none, and where nobody verifies the checksums of the last one
 */
export function lastWithoutChecksums(chain: readonly BackupChecksums[]): BackupChecksums | undefined {
  const last = chain.at(-1)?.state
  // Checksums that are being switched on are not verified before every page has been written again, which the WAL has.
  if (last === undefined || last === 'off' || last === 'inprogress-on') return undefined
  return chain.slice(0, -1).findLast(({ state }) => state !== undefined && state !== 'on')
}
