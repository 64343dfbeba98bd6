/** The JSON documents of real backups, by WAL-G v3.0.9 and WAL-RUS 0.3.0, in test/golden. */
import { readFileSync } from 'node:fs'

const full = 'base_000000010000000000000002'
const second = 'base_000000010000000000000004_D_000000010000000000000002'

/** Archives and the backups in them. */
export const goldenBackups: readonly (readonly [archive: string, backup: string])[] = [
  ['walg-remote-zstd', full],
  ['walg-remote-none-many-parts', 'base_00000001000000000000000B'],
  ['walg-local-lz4-deltas', full],
  ['walg-local-lz4-deltas', second],
  ['walg-local-lz4-deltas', 'base_000000010000000000000006_D_000000010000000000000004'],
  ['walrus-remote-zstd', full],
  ['walrus-local-zstd-deltas', full],
  ['walrus-local-zstd-deltas', second],
  ['walrus-local-zstd-deltas', 'base_000000010000000000000006_D_000000010000000000000004_D_000000010000000000000002'],
]

/** The folder of an archive. */
export function goldenArchive(archive: string): URL {
  return new URL(`../../golden/${archive}/archive/`, import.meta.url)
}

/** A sentinel's bytes. */
export function goldenSentinel(archive: string, backup: string): Buffer {
  return readFileSync(new URL(`basebackups_005/${backup}_backup_stop_sentinel.json`, goldenArchive(archive)))
}

/** The bytes of another document of a backup. */
export function goldenDocument(archive: string, backup: string, document: string): Buffer {
  return readFileSync(new URL(`basebackups_005/${backup}/${document}`, goldenArchive(archive)))
}
