/**
 * Tablespaces of a restored cluster: links below its own `pg_tblspc`, to the folders that the sentinel names or to others.
 * WAL-G makes them below the original data directory, wherever it restores to (docs/walg-format.md, 5.7); that place is
 * never written to here.
 */
import * as fs from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'
import { formatTablespaceMap } from '../../postgres/backup/tablespace-map.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { TablespaceSpec } from '../../walg/backup/tablespace-spec.ts'
import type { DirectorySink } from './restore-sink.ts'

/** A tablespace, and where it goes. */
export interface PlacedTablespace {
  readonly oid: number
  readonly original: string
  readonly location: string
}

/**
 * Reads `OLD=NEW`, as pg_basebackup's --tablespace-mapping: both absolute, `\=` for an equals sign.
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
 * Says where each tablespace goes.
 * @throws WALRX_USAGE for a mapping that fits no tablespace
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
    hint: known === '' ? 'it has none at all' : `it has: ${known}`,
  })
}

/** Throws WALRX_RESTORE_FAILED where a tablespace would go into a folder that holds something. */
export async function refuseUsedFolders(tablespaces: readonly PlacedTablespace[]): Promise<void> {
  for (const { location, oid } of tablespaces) {
    const names = await fs.readdir(location).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw new WalrxError('WALRX_RESTORE_FAILED', `${location} cannot be read: ${error.message}`, { cause: error })
    })
    if (names.length === 0) continue
    throw new WalrxError('WALRX_RESTORE_FAILED', `tablespace ${oid} would go to ${location}, which is not empty`, {
      hint: `give it another place: --tablespace-mapping ${location}=/another/place`,
    })
  }
}

/** Makes the folders, and the links to them. They are durable when the sink's `sync` has resolved. */
export async function linkTablespaces(sink: DirectorySink, tablespaces: readonly PlacedTablespace[]): Promise<void> {
  for (const { location, oid } of tablespaces) await sink.link(join('pg_tblspc', String(oid)), location)
}

/**
 * tablespace_map with the new places. As it is, PostgreSQL would link the clone to the original's tablespaces.
 */
export function rewriteTablespaceMap(content: Buffer, tablespaces: readonly PlacedTablespace[]): Buffer {
  if (tablespaces.every(({ location, original }) => location === original)) return content
  return formatTablespaceMap(tablespaces)
}
