/** A spot check after a run: a contender that stores something else is not measured. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { codecOfExtension } from '../src/compression/codecs.ts'

/** How many segments are compared, spread over the range. */
const samples = 5

/**
 * Compares some segments of a directory archive with the server's own, byte for byte.
 * @param decrypt what the contender has encrypted
 * @throws Error naming the first that differs
 */
export async function verifySegments(
  archive: string,
  pgWal: string,
  segments: readonly string[],
  decrypt: (object: Buffer) => Buffer,
): Promise<void> {
  const names = await readdir(join(archive, 'wal_005'))
  const last = segments.length - 1
  for (let sample = 0; sample < samples; sample++) {
    const segment = segments[Math.round((last * sample) / (samples - 1))] ?? ''
    const object = names.find((name) => name === segment || name.startsWith(`${segment}.`)) ?? segment
    const { extension } = /^[0-9A-F]{24}\.?(?<extension>.*)$/.exec(object)?.groups ?? {}
    const decoder = codecOfExtension(extension ?? '', object).decoder()
    decoder.end(decrypt(await readFile(join(archive, 'wal_005', object))))
    const decoded = await buffer(decoder)
    if (!decoded.equals(await readFile(join(pgWal, segment))))
      throw new Error(`${object} differs from the server's segment`)
  }
}
