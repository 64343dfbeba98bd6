/** The backup_manifest of a restored directory lists its files as they are. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { crc32c } from '@node-rs/crc32'
import { readManifest } from '../../../src/postgres/backup/backup-manifest.ts'
import { clientTool } from '../../harness/postgres/client-tools.ts'
import type { PgMajor } from '../../harness/postgres/postgres.ts'
import { filesBelow } from './delta-proofs.ts'

const run = promisify(execFile)

/** Files that no manifest lists, or that restores change (pg_verifybackup leaves them out, too). */
const unlisted = /^(backup_manifest|postgresql\.auto\.conf|recovery\.signal|standby\.signal|pg_wal\/.*)$/

/**
 * Each file of the directory is in its manifest with its size and CRC-32C, and no other; pg_verifybackup of that version
 * accepts it, where there is one.
 */
export async function assertManifestFits(directory: string, major: PgMajor): Promise<void> {
  const path = join(directory, 'backup_manifest')
  const manifest = await readManifest(createReadStream(path), path)
  const files = await filesBelow(directory)
  const listed = [...manifest.keys()].filter((name) => !unlisted.test(name)).sort()
  assert.deepEqual([...files.keys()].filter((name) => !unlisted.test(name)).sort(), listed)
  for (const name of listed) {
    const content = await readFile(join(directory, name))
    const sum = Buffer.alloc(4)
    sum.writeUInt32LE(crc32c(content))
    const { algorithm, checksum, size } = manifest.get(name) ?? {}
    assert.deepEqual([name, algorithm, checksum, size], [name, 'CRC32C', sum.toString('hex'), content.length])
  }
  const verify = await clientTool('pg_verifybackup', major)
  if (verify !== undefined) await run(verify, ['--no-parse-wal', directory])
}
