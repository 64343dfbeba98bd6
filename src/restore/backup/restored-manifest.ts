/**
 * backup_manifest of a restored directory, where that differs from what the server sent: a tablespace_map that was rewritten
 * for other directories, and in a delta the files that came as increments, and backup_label. pg_verifybackup would refuse
 * the directory otherwise. The server writes one file per line (AddFileToBackupManifest in backup_manifest.c), so the
 * other lines pass through, and the manifest's own checksum at the end is computed again.
 */
import { createHash } from 'node:crypto'
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { mapInParallel } from '../../catalog/map-in-parallel.ts'
import type { ManifestFile } from '../../postgres/backup/backup-manifest.ts'
import { incrementedPath } from '../../postgres/relations/relation-file.ts'
import { openChecksum } from './parts/checksums.ts'
import type { AppliedIncrement } from './increment-apply.ts'

/**
 * Passes a manifest on, with other entries for some files. An increment's entry, `base/5/INCREMENTAL.1259`, becomes that of
 * its file, `base/5/1259`.
 * @param changes by the path of the restored file; all algorithms are the manifest's
 */
export async function* changedManifest(
  source: AsyncIterable<Uint8Array>,
  changes: ReadonlyMap<string, ManifestFile>,
): AsyncGenerator<Uint8Array, undefined> {
  const hash = createHash('sha256')
  for await (const line of lines(source)) {
    if (line.startsWith('"Manifest-Checksum"')) {
      yield Buffer.from(`"Manifest-Checksum": "${hash.digest('hex')}"}\n`, 'latin1')
      return
    }
    const bytes = Buffer.from(changedLine(line, changes), 'latin1')
    hash.update(bytes)
    yield bytes
  }
}

function changedLine(line: string, changes: ReadonlyMap<string, ManifestFile>): string {
  const quoted = /^\{ "Path": ("(?:[^"\\]|\\.)*"), /.exec(line)?.[1]
  if (quoted === undefined) return line
  const listed = JSON.parse(quoted) as string
  const path = incrementedPath(listed) ?? listed
  const file = changes.get(path)
  if (!file) return line
  const sized = line.replace(quoted, () => JSON.stringify(path)).replace(/"Size": \d+/, `"Size": ${file.size}`)
  return file.checksum === undefined ? sized : sized.replace(/"Checksum": "[^"]*"/, `"Checksum": "${file.checksum}"`)
}

/** Lines with their line breaks, one character for each byte. */
async function* lines(source: AsyncIterable<Uint8Array>): AsyncGenerator<string, undefined> {
  let rest = ''
  for await (const chunk of source) {
    rest += Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length).toString('latin1')
    const complete = rest.split('\n')
    rest = complete.pop() ?? ''
    for (const line of complete) yield `${line}\n`
  }
  if (rest !== '') yield rest
}

/** Bytes that are read at once. */
const chunkBytes = 1024 * 1024

/**
 * Sizes and checksums of the files of a restored chain. Most files of a delta are increments that change nothing: such a file
 * is as the manifest of the backup lists it that holds the whole file. Other files are read again. pg_combinebackup does
 * the same (reconstruct.c). Paths are relative to the data directory.
 */
export class RestoredSums {
  readonly #known = new Map<string, ManifestFile>()

  /** A whole file was written. @param listed as a manifest lists it; undefined where none does, or it was written otherwise */
  written(path: string, listed: ManifestFile | undefined): void {
    if (listed) this.#known.set(path, listed)
    else this.#known.delete(path)
  }

  /** An increment was applied to a file. */
  changed(path: string, { bytes, hasPages, keptBytes }: AppliedIncrement): void {
    const size = this.#known.get(path)?.size
    if (hasPages || bytes !== size || keptBytes < size) this.#known.delete(path)
  }

  /**
   * The entries of files as they lie in a directory.
   * @param algorithm of the checksums; undefined for none
   * @param concurrency files that are read at the same time
   * @throws what the file system throws, and the signal's reason
   */
  async measure(
    directory: string,
    paths: readonly string[],
    algorithm: string | undefined,
    { concurrency, signal }: { readonly concurrency: number; readonly signal: AbortSignal },
  ): Promise<ReadonlyMap<string, ManifestFile>> {
    const buffers: Buffer[] = []
    const measure = async (path: string): Promise<readonly [string, ManifestFile]> => {
      signal.throwIfAborted()
      const known = this.#known.get(path)
      if (known !== undefined && known.algorithm === algorithm) return [path, known]
      const buffer = buffers.pop() ?? Buffer.allocUnsafe(chunkBytes)
      const measured = await readSum(join(directory, path), algorithm, buffer)
      buffers.push(buffer)
      return [path, measured]
    }
    return new Map(await mapInParallel(paths, measure, concurrency))
  }
}

async function readSum(path: string, algorithm: string | undefined, buffer: Buffer): Promise<ManifestFile> {
  await using file = await fs.open(path)
  if (algorithm === undefined) return { size: (await file.stat()).size, algorithm, checksum: undefined }
  const checksum = openChecksum(algorithm, 'the manifest')
  for (let size = 0; ;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, size)
    if (bytesRead === 0) return { size, algorithm, checksum: checksum.digest() }
    checksum.update(buffer.subarray(0, bytesRead))
    size += bytesRead
  }
}
