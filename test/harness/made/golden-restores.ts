/** Real chains of WAL-G and WAL-RUS in test/golden, and the files that restores of them make. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { TestPostgres } from '../postgres/postgres.ts'
import { goldenArchive, goldenSentinel } from './golden-backups.ts'

const full = 'base_000000010000000000000002'
const first = 'base_000000010000000000000004_D_000000010000000000000002'
const walgSecond = 'base_000000010000000000000006_D_000000010000000000000004'

/** Archives with a full backup and two deltas, each on the one before. */
export const goldenChains: readonly (readonly [archive: string, backups: readonly string[]])[] = [
  ['walg-local-lz4-deltas', [full, first, walgSecond]],
  ['walrus-local-zstd-deltas', [full, first, `${walgSecond}_D_000000010000000000000002`]],
  ['walrus-local-zstd-native-increments', [full, first, `${walgSecond}_D_000000010000000000000002`]],
]

/** What the writer of a backup made of it, by path; a checksum is SHA-256. */
export interface ExpectedRestore {
  readonly files: ReadonlyMap<string, string>
  /** WAL-RUS keeps files that were dropped since the backups below: these are not in the backup. */
  readonly leftovers: readonly string[]
  readonly directories: readonly string[]
}

/** What is expected of a backup's restore. */
export function expectedRestore(archive: string, backup: string): ExpectedRestore {
  return expectedOf(fileURLToPath(new URL('..', goldenArchive(archive))), backup)
}

/** @param folder with `archive` and `expected` in it */
export function expectedOf(folder: string, backup: string): ExpectedRestore {
  const read = (kind: string) => readFileSync(join(folder, `expected/${backup}.${kind}`), 'utf8')
  const lines = read('sha256').trim().split('\n')
  const all = new Map(lines.map((line) => [line.slice(68), line.slice(0, 64)] as const))
  const document = join(folder, `archive/basebackups_005/${backup}/files_metadata.json`)
  const table = JSON.parse(readFileSync(document, 'utf8')) as { readonly Files: object }
  const listed = new Set(Object.keys(table.Files).map((name) => name.replace(/^\//, '')))
  for (const name of ['global/pg_control', 'backup_label', 'tablespace_map']) listed.add(name)
  const leftovers = [...all.keys()].filter((path) => !listed.has(path))
  const files = new Map([...all].filter(([path]) => listed.has(path)))
  return {
    files,
    leftovers,
    directories: read('dirs')
      .trim()
      .split('\n')
      .map((line) => line.slice(2)),
  }
}

/** What lies in a data directory, tablespaces included. */
export async function restoredFiles(directory: string): Promise<Pick<ExpectedRestore, 'files' | 'directories'>> {
  const files = new Map<string, string>()
  const directories: string[] = []
  const walk = async (path: string) => {
    for (const name of await readdir(join(directory, path))) {
      const inner = join(path, name)
      // Links to tablespaces are followed.
      if ((await stat(join(directory, inner))).isDirectory()) {
        directories.push(inner)
        await walk(inner)
      } else
        files.set(
          inner,
          createHash('sha256')
            .update(await readFile(join(directory, inner)))
            .digest('hex'),
        )
    }
  }
  await walk('')
  return { files, directories }
}

/** Where a backup's tablespace was. */
export function tablespaceOf(archive: string, backup: string): string {
  return /"loc":"([^"]*)"/.exec(goldenSentinel(archive, backup).toString())?.[1] ?? ''
}

/** The lines of rows.txt: each table in the schema public, with the number of its rows and a checksum over them. */
export async function rowsOf(server: TestPostgres): Promise<string[]> {
  const tables = await server.sql<{ name: string }>(`
    select relname as name from pg_class
    where relkind = 'r' and relpersistence = 'p' and relnamespace = 'public'::regnamespace order by 1`)
  const found: string[] = []
  for (const { name } of tables) {
    const [row] = await server.sql<{ count: number; sum: string }>(`
      select count(*)::int as count, md5(coalesce(string_agg(each::text, '|' order by each::text), '')) as sum
      from ${name} each`)
    found.push(`${name} ${row?.count}|${row?.sum}`)
  }
  return found
}
