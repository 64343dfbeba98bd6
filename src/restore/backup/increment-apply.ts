/** Applies the increment of a file, as read from a part, to the file as restored from the backups below. */
import { pageBytes } from '../../postgres/relations/relation-file.ts'
import { type IncrementHead, IncrementReader } from '../../walg/increment/increment-reader.ts'
import type { TarEntry } from '../../walg/backup/tar/tar-entries.ts'
import { damaged } from './backup-damage.ts'
import type { ChangedFile } from './parts/restored-file.ts'

/** What an increment made of a file. */
export interface AppliedIncrement {
  /** True where it changed the content of a block. */
  readonly hasPages: boolean
  /** What it kept of the file before it, in bytes, listed blocks included. */
  readonly keptBytes: number
  /** Bytes of the file after it. */
  readonly bytes: number
}

/**
 * Applies an increment of WAL-G, or of PostgreSQL 17 as WAL-RUS stores it.
 * @param file finished after success, else dropped
 * @param object the part, for messages
 * @throws WALRX_BACKUP_DAMAGED with the part, the file and the field; what the file throws
 */
export async function applyIncrement(entry: TarEntry, file: ChangedFile, object: string): Promise<AppliedIncrement> {
  const applied = { hasPages: false, keptBytes: 0, bytes: 0 }
  const reader = new IncrementReader({
    size: entry.size,
    formats: ['wi1', 'native'],
    refuse: (what) => damaged(`${object} holds a damaged increment of ${entry.name}: ${what}`),
    sink: {
      onHead: (head) => {
        applied.keptBytes = head.keptBlocks * pageBytes
        applied.bytes = Math.max(head.keptBlocks, head.fileBlocks) * pageBytes
        return resize(file, head)
      },
      onPages: (position, bytes) => {
        applied.hasPages = true
        return file.write(position, bytes)
      },
    },
  })
  try {
    for await (const chunk of entry.body) await reader.append(chunk)
    reader.end()
    await file.finish()
    return applied
  } finally {
    await file.drop()
  }
}

async function resize(file: ChangedFile, { fileBlocks, keptBlocks }: IncrementHead): Promise<void> {
  await file.resize(keptBlocks * pageBytes)
  if (fileBlocks > keptBlocks) await file.resize(fileBlocks * pageBytes)
}
