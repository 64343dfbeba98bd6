/**
 * Tablespaces of a restored cluster: links in its own `pg_tblspc` to the directories that the sentinel names, or to
 * mapped ones. WAL-G makes the links in the original data directory, whatever directory it restores to (docs/walg-format.md,
 * 5.7); walrx never writes there.
 */
import * as fs from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { formatTablespaceMap } from '../../postgres/backup/tablespace-map.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { TablespaceSpec } from '../../walg/backup/tablespace-spec.ts'
import type { DirectorySink } from './restore-sink.ts'

/** A tablespace and the directory to restore it to. */
export interface PlacedTablespace {
  readonly oid: number
  readonly original: string
  readonly location: string
}

/**
 * Reads `OLD=NEW`, as pg_basebackup's --tablespace-mapping does: both absolute, `\=` for an equals sign.
 * @throws WALRX_USAGE
 */
export function parseMapping(text: string): readonly [string, string] {
  const match = /^((?:[^\\=]|\\.)+)=((?:[^\\=]|\\.)+)$/s.exec(text)
  const [old, other] = [match?.[1], match?.[2]].map((path) => path?.replace(/\\(.)/gs, '$1').replace(/(?<=.)\/+$/, ''))
  if (old === undefined || other === undefined || !isAbsolute(old) || !isAbsolute(other)) {
    throw new WalrxError('WALRX_USAGE', `--tablespace-mapping "${text}" is not of the form /old/path=/new/path`)
  }
  return [old, other]
}

/**
 * The directory for each tablespace.
 * @throws WALRX_USAGE for a mapping that matches no tablespace
 */
export function placeTablespaces(
  spec: TablespaceSpec | undefined,
  mappings: readonly (readonly [string, string])[],
): readonly PlacedTablespace[] {
  const left = new Map(mappings)
  const placed = (spec?.tablespaces ?? []).map(({ location, oid }) => {
    const original = location.replace(/(?<=.)\/+$/, '')
    const other = left.get(original)
    left.delete(original)
    return { oid, original: location, location: other ?? location }
  })
  const [unused] = left.keys()
  if (unused === undefined) return placed
  const known = placed.map(({ original }) => original).join(', ')
  throw new WalrxError('WALRX_USAGE', `the backup has no tablespace at ${unused}`, {
    hint:
      known === ''
        ? 'it has no tablespaces: leave out --tablespace-mapping'
        : `the left side of --tablespace-mapping must be one of: ${known}`,
  })
}

/** Throws WALRX_RESTORE_FAILED where a tablespace would be restored into a directory that is not empty. */
export async function refuseUsedFolders(tablespaces: readonly PlacedTablespace[]): Promise<void> {
  for (const { location, oid } of tablespaces) {
    const names = await fs.readdir(location).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw new WalrxError(
        'WALRX_RESTORE_FAILED',
        `tablespace directory ${location} cannot be read: ${error.message}`,
        {
          cause: error,
        },
      )
    })
    if (names.length === 0) continue
    throw new WalrxError(
      'WALRX_RESTORE_FAILED',
      `tablespace ${oid} would be restored to ${location}, which is not empty`,
      {
        hint: `empty it, or choose another directory: --tablespace-mapping ${location}=/another/directory`,
      },
    )
  }
}

/** Makes the folders, and the links to them. They are durable when the sink's `sync` has resolved. */
export async function linkTablespaces(sink: DirectorySink, tablespaces: readonly PlacedTablespace[]): Promise<void> {
  for (const { location, oid } of tablespaces) await sink.link(join('pg_tblspc', String(oid)), location)
}

/**
 * tablespace_map with the new directories. Unchanged, it would link the restored cluster to the original's tablespaces.
 */
export function rewriteTablespaceMap(content: Buffer, tablespaces: readonly PlacedTablespace[]): Buffer {
  if (tablespaces.every(({ location, original }) => location === original)) return content
  return formatTablespaceMap(tablespaces)
}
