/**
 * backup_manifest with a new entry for one file. A tablespace_map that was rewritten for other directories differs from
 * the server's list, and pg_verifybackup would refuse the data directory. The server writes one file per line
 * (AddFileToBackupManifest in backup_manifest.c), so the other lines pass through, and the manifest's own checksum at
 * the end is computed again.
 */
import { createHash } from 'node:crypto'
import { openChecksum } from './checksums.ts'

/**
 * Passes a manifest on, with that entry replaced.
 * @param path of the file, as in the manifest
 * @param content the file's new content
 */
export async function* changedManifest(
  source: AsyncIterable<Uint8Array>,
  path: string,
  content: Buffer,
): AsyncGenerator<Uint8Array, undefined> {
  const hash = createHash('sha256')
  for await (const line of lines(source)) {
    if (line.startsWith('"Manifest-Checksum"')) {
      yield Buffer.from(`"Manifest-Checksum": "${hash.digest('hex')}"}\n`, 'latin1')
      return
    }
    const text = line.startsWith(`{ "Path": ${JSON.stringify(path)},`) ? newEntry(line, content) : line
    const bytes = Buffer.from(text, 'latin1')
    hash.update(bytes)
    yield bytes
  }
}

function newEntry(line: string, content: Buffer): string {
  const algorithm = /"Checksum-Algorithm": "([^"]*)"/.exec(line)?.[1]
  const sized = line.replace(/"Size": \d+/, `"Size": ${content.length}`)
  if (algorithm === undefined) return sized
  const checksum = openChecksum(algorithm, 'the manifest')
  checksum.update(content)
  return sized.replace(/"Checksum": "[^"]*"/, `"Checksum": "${checksum.digest()}"`)
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
