/**
 * Where a backup's tablespaces were: the `Spec` of a sentinel (docs/walg-format.md, 2.3; wal-g: tablespace_spec.go).
 */
import type { JsonValue } from '../../primitives/json/json.ts'
import { isJsonObject, JsonDocument, type JsonObject } from '../json-document.ts'

/** One tablespace. In-place ones, which are plain directories, are not among them. */
export interface SpecTablespace {
  readonly oid: number
  /** Absolute path of the directory on the server. */
  readonly location: string
  /** The link within the data directory: `pg_tblspc/<oid>`. */
  readonly link: string
}

/** See the file's header. */
export interface TablespaceSpec {
  /** The server's data directory. WAL-G makes the links below it, wherever it restores to. */
  readonly basePrefix: string
  readonly tablespaces: readonly SpecTablespace[]
}

/** Reads a `Spec`. Throws WALRX_OBJECT_DAMAGED where a listed tablespace has no entry. */
export function readSpec(value: JsonValue, key: string): TablespaceSpec {
  const fields = new JsonDocument(value, `${key}: Spec`)
  const basePrefix = fields.text('base_prefix') ?? ''
  const listed = fields.take('tablespaces') ?? []
  if (!Array.isArray(listed)) throw fields.wrong('tablespaces', listed, 'a list')
  const tablespaces = (listed as readonly JsonValue[]).map((name): SpecTablespace => {
    const text = typeof name === 'string' ? name : ''
    if (!/^[1-9]\d{0,9}$/.test(text)) throw fields.wrong('tablespaces', name, 'the oid of a tablespace as text')
    const entry = fields.take(text)
    if (!isJsonObject(entry)) throw fields.wrong(text, entry, 'where this tablespace was')
    const place = new JsonDocument(entry, `${key}: Spec.${text}`)
    const location = place.text('loc')
    if (location === undefined) throw place.wrong('loc', undefined, 'a directory')
    return { oid: Number(text), location, link: place.text('link') ?? `pg_tblspc/${text}` }
  })
  return { basePrefix, tablespaces }
}

/** A `Spec` as JSON, in the order of Go's maps. */
export function specToJson({ basePrefix, tablespaces }: TablespaceSpec): JsonObject {
  const places = tablespaces.map(({ oid, location, link }) => [String(oid), { loc: location, link }] as const)
  return {
    ...Object.fromEntries(places),
    base_prefix: basePrefix,
    tablespaces: tablespaces.map(({ oid }) => String(oid)),
  }
}
