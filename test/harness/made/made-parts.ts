/** What lies in the folder of a backup that can be restored, as far as listings show it. */
import { filesMetadataKey, partKey } from '../../../src/walg/backup/backup-names.ts'
import type { MemoryStorage } from '../store/memory-storage.ts'

/** Puts two parts of so many bytes together, and a table of files. */
export function seedParts(storage: MemoryStorage, name: string, bytes = 100): void {
  storage.seed(partKey(name, 'part_001.tar.zst'), Buffer.alloc(bytes - 1))
  storage.seed(partKey(name, 'pg_control.tar.zst'), Buffer.alloc(1))
  storage.seed(filesMetadataKey(name), '{}')
}
