/**
 * Tablespaces of a restored cluster: links in its own `pg_tblspc` to the directories that the sentinel names, or to
 * mapped ones. WAL-G makes the links in the original data directory, whatever directory it restores to (docs/walg-format.md,
 * 5.7); walrx never writes there.
 */
import { isAbsolute, join, relative, resolve } from 'node:path'
import { formatTablespaceMap } from '../../postgres/backup/tablespace-map.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { TablespaceSpec } from '../../walg/backup/tablespace-spec.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import { contentsOf, type DirectorySink } from './restore-sink.ts'

/** A tablespace and the directory to restore it to. */
export interface PlacedTablespace {
  readonly oid: number
  readonly original: string
  readonly location: string
}

/** A mapping as pg_basebackup's --tablespace-mapping writes it. */
const mappingPattern = /^((?:[^\\=]|\\.)+)=((?:[^\\=]|\\.)+)$/s

/**
 * Reads the mappings of one option: `OLD=NEW`, or several with commas between them. A comma ends a mapping only where
 * the next one can begin, with a slash, and both are whole: others belong to a path, and so does `\,`.
 * @throws WALRX_USAGE
 */
export function parseMappings(text: string): (readonly [old: string, now: string])[] {
  const mappings: string[] = []
  let begun = ''
  for (const piece of text.split(/(?<=^(?:[^\\]|\\.)*),(?=\/|$)/s)) {
    begun = begun === '' ? piece : `${begun},${piece}`
    const last = mappings.at(-1)
    if (mappingPattern.test(begun)) mappings.push(begun)
    else if (last !== undefined && begun !== '' && !/(?<!\\)=/.test(begun) && mappingPattern.test(`${last},${begun}`))
      mappings.splice(-1, 1, `${last},${begun}`)
    else continue
    begun = ''
  }
  if (begun !== '') mappings.push(begun)
  return mappings.map(parseMapping)
}

/** A path of a mapping, so that {@link parseMappings} reads it as it is. */
export function mappingPath(path: string): string {
  return path.replace(/[\\=,]/g, '\\$&')
}

/**
 * Reads `OLD=NEW`, as pg_basebackup's --tablespace-mapping does: both absolute, `\=` for an equals sign.
 * @throws WALRX_USAGE
 */
export function parseMapping(text: string): readonly [string, string] {
  const match = mappingPattern.exec(text)
  const [old, other] = [match?.[1], match?.[2]].map((path) => path?.replace(/\\(.)/gs, '$1').replace(/(?<=.)\/+$/, ''))
  if (old === undefined || other === undefined || !isAbsolute(old) || !isAbsolute(other)) {
    throw new WalrxError('WALRX_USAGE', `--tablespace-mapping "${text}" is not of the form /old/path=/new/path`)
  }
  return [old, other]
}

/**
 * The directory for each tablespace: the mapped one, else the original one. One that was inside the original's data
 * directory is inside the restored one: at its old place it would be inside the original's.
 * @param destination the restored data directory
 * @param walDirectory where pg_wal is to lead to, if it is a link
 * @throws WALRX_USAGE for a mapping that matches no tablespace, for two of one tablespace, and for a directory that holds
 * something else
 */
export function placeTablespaces(
  spec: TablespaceSpec | undefined,
  mappings: readonly (readonly [string, string])[],
  destination: string,
  walDirectory?: string,
): readonly PlacedTablespace[] {
  const basePrefix = (spec?.basePrefix ?? '').replace(/\/+$/, '')
  refuseContradiction(mappings)
  const left = new Map(mappings)
  const placed = (spec?.tablespaces ?? []).map(({ location, oid }) => {
    const original = location.replace(/(?<=.)\/+$/, '')
    const other = left.get(original)
    left.delete(original)
    const inside = basePrefix === '' ? '..' : relative(basePrefix, original)
    const own = inside === '' || /^\.\.(\/|$)/.test(inside) ? location : join(destination, inside)
    return { oid, original: location, location: other ?? own }
  })
  const [unused] = left.keys()
  if (unused === undefined) {
    refuseSharedPlaces(placed, destination, walDirectory)
    return placed
  }
  const known = placed.map(({ original }) => original).join(', ')
  throw new WalrxError('WALRX_USAGE', `the backup has no tablespace at ${unused}`, {
    hint:
      known === ''
        ? 'it has no tablespaces: leave out --tablespace-mapping'
        : `the left side of --tablespace-mapping must be one of: ${known}`,
  })
}

/** pg_basebackup takes the first of two, silently. */
function refuseContradiction(mappings: readonly (readonly [old: string, now: string])[]): void {
  for (const [index, [old, now]] of mappings.entries()) {
    const [, other] = mappings.slice(0, index).find(([each]) => each === old) ?? []
    if (other === undefined || other === now) continue
    throw new WalrxError('WALRX_USAGE', `--tablespace-mapping maps ${old} to ${other} and to ${now}`, {
      hint: 'give one of them',
    })
  }
}

/** Folders of a data directory that are the server's own. */
export const ownFolder =
  /^(base|global|pg_(commit_ts|dynshmem|logical|multixact|notify|replslot|serial|snapshots|stat|stat_tmp|subtrans|tblspc|twophase|wal|xact))(\/|$)/

/** In one directory files of two tablespaces may have one name: the second would overwrite the first. */
function refuseSharedPlaces(
  placed: readonly PlacedTablespace[],
  destination: string,
  walDirectory: string | undefined,
): void {
  const users = new Map([[resolve(destination), 'the data directory']])
  if (walDirectory !== undefined) users.set(resolve(walDirectory), 'the WAL (--waldir)')
  for (const { location, oid } of placed) {
    const place = resolve(location)
    const inside = relative(destination, place)
    const user = users.get(place) ?? (ownFolder.test(inside) ? "the server's own files" : undefined)
    if (user !== undefined) {
      throw new WalrxError('WALRX_USAGE', `tablespace ${oid} would be restored to ${place}, which is for ${user}`, {
        hint: 'choose a directory of its own with --tablespace-mapping',
      })
    }
    users.set(place, `tablespace ${oid}`)
  }
}

/** Throws WALRX_RESTORE_FAILED where a tablespace would be restored into a directory that is not empty. */
export async function refuseUsedFolders(tablespaces: readonly PlacedTablespace[]): Promise<void> {
  for (const { location, oid, original } of tablespaces) {
    const names = await contentsOf(location).catch((error: NodeJS.ErrnoException) => {
      throw new WalrxError(
        'WALRX_RESTORE_FAILED',
        `tablespace directory ${location} cannot be read: ${error.message}`,
        {
          cause: error,
        },
      )
    })
    if (!names || names.length === 0) continue
    const mapping = `${mappingPath(original)}=/another/directory`
    throw new WalrxError(
      'WALRX_RESTORE_FAILED',
      `tablespace ${oid} would be restored to ${location}, which is not empty`,
      {
        hint: `empty it, or choose another directory: --tablespace-mapping ${shellWord(mapping)}`,
      },
    )
  }
}

/**
 * Makes the links. Each folder is made when something comes into it: where a link of the original led nowhere, so does
 * the restored one. All is durable when the sink's `sync` has resolved.
 */
export async function linkTablespaces(sink: DirectorySink, tablespaces: readonly PlacedTablespace[]): Promise<void> {
  for (const { location, oid } of tablespaces) await sink.linkFirst(join('pg_tblspc', String(oid)), location)
}

/**
 * tablespace_map with the new directories. Unchanged, it would link the restored cluster to the original's tablespaces.
 */
export function rewriteTablespaceMap(content: Buffer, tablespaces: readonly PlacedTablespace[]): Buffer {
  if (tablespaces.every(({ location, original }) => location === original)) return content
  return formatTablespaceMap(tablespaces)
}
