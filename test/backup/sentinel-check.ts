/** What a sentinel stands for. */
import assert from 'node:assert/strict'
import { crc32c } from '@node-rs/crc32'
import { backupFolder, contentsKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { parseContents } from '../../src/walg/backup/backup-contents.ts'
import { decrypted } from '../faults/simulated-keys.ts'
import type { MemoryStorage } from '../harness/store/memory-storage.ts'
import { backup } from './backup-server.ts'

/**
 * A sentinel stands for whole data only.
 * @returns true where there is one
 */
export function assertNoSentinelWithoutData(storage: MemoryStorage): boolean {
  if (!storage.peek(sentinelKey(backup))) return false
  const contentsBytes = storage.peek(contentsKey(backup)) ?? Buffer.alloc(0)
  const contents = parseContents(storage.keyring ? decrypted(contentsBytes) : contentsBytes, 'walrx.json').objects
  assert.ok(contents.size > 4)
  for (const { crc32c: sum, name, size } of contents.values()) {
    const stored = storage.peek(backupFolder(backup) + name)
    assert.ok(stored, `there is a sentinel, and no ${name}`)
    assert.deepEqual([stored.length, crc32c(stored)], [size, sum], name)
  }
  for (const name of ['metadata.json', 'files_metadata.json'])
    assert.ok(storage.peek(backupFolder(backup) + name), name)
  return true
}
