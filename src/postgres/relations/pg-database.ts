/**
 * Reads pg_database from its pages, without a server (src/include/storage/bufpage.h, access/htup_details.h,
 * catalog/pg_database.h). A backup may hold a page in any state between two checkpoints, and whether a row is visible is
 * known only after the recovery: so all versions of rows are returned that were not rolled back.
 */
import { pageBytes } from './relation-file.ts'

/** OID of pg_database. */
export const databaseRelation = 1262

/** A version of a row. */
export interface DatabaseRow {
  readonly oid: number
  /** Bytes of the name that are not UTF-8 are U+FFFD. */
  readonly name: string
  readonly isTemplate: boolean
}

const pageHeaderBytes = 24
const linePointerBytes = 4
/** lp_flags of a line pointer to a tuple. */
const normal = 1
/** HEAP_XMIN_COMMITTED | HEAP_XMIN_INVALID: both together are a frozen row. */
const xminBits = 0x0300
const xminInvalid = 0x0200
const nameBytes = 64

/**
 * All rows in some pages, in their order.
 * @param major version of the server: since 15 the row has no fixed collations
 */
export function databaseRows(pages: Buffer, major: number): DatabaseRow[] {
  const rows: DatabaseRow[] = []
  for (let at = 0; at + pageBytes <= pages.length; at += pageBytes) {
    const page = pages.subarray(at, at + pageBytes)
    const pointers = Math.floor((Math.min(page.readUInt16LE(12), pageBytes) - pageHeaderBytes) / linePointerBytes)
    for (let index = 0; index < pointers; index++) {
      const row = rowAt(page, page.readUInt32LE(pageHeaderBytes + index * linePointerBytes), major)
      if (row) rows.push(row)
    }
  }
  return rows
}

/** Where a column is in a row: oid, datname, datdba, encoding, then up to 14 datcollate and datctype, since 15 datlocprovider. */
const isTemplateAt = (major: number): number => 4 + nameBytes + 4 + 4 + (major >= 15 ? 1 : 2 * nameBytes)

/** @param pointer lp_off in 15 bits, lp_flags in 2, lp_len in 15 */
function rowAt(page: Buffer, pointer: number, major: number): DatabaseRow | undefined {
  const [start, flags, length] = [pointer & 0x7fff, (pointer >>> 15) & 3, pointer >>> 17]
  if (flags !== normal || start + length > page.length || length < 23) return undefined
  const tuple = page.subarray(start, start + length)
  if ((tuple.readUInt16LE(20) & xminBits) === xminInvalid) return undefined
  const row = tuple.subarray(tuple[22] ?? 0)
  if (row.length <= isTemplateAt(major)) return undefined
  const name = row.subarray(4, 4 + nameBytes)
  const end = name.indexOf(0)
  return {
    oid: row.readUInt32LE(0),
    name: name.toString('utf8', 0, end === -1 ? nameBytes : end),
    isTemplate: row[isTemplateAt(major)] === 1,
  }
}
