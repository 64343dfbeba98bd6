/**
 * backup_manifest with one file described anew: a tablespace_map that was rewritten for other folders is not what the
 * server listed, and pg_verifybackup would refuse the directory. The server writes one file to a line
 * (AddFileToBackupManifest in backup_manifest.c), so lines pass through, and the checksum at the end is made anew.
 */
import { createHash } from 'node:crypto'
import { openChecksum } from './checksums.ts'

/**
 * Passes a manifest on.
 * @param path of the file, as the manifest has it
 * @param content what the file holds now
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
    const text = line.startsWith(`{ "Path": ${JSON.stringify(path)},`) ? describedAnew(line, content) : line
    const bytes = Buffer.from(text, 'latin1')
    hash.update(bytes)
    yield bytes
  }
}

function describedAnew(line: string, content: Buffer): string {
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
    const pieces = rest.split('\n')
    rest = pieces.pop() ?? ''
    for (const piece of pieces) yield `${piece}\n`
  }
  if (rest !== '') yield rest
}
