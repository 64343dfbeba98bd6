/**
 * A relation map, `pg_filenode.map`: the files of catalogs whose pg_class entry cannot say it (RelMapFile in
 * src/backend/utils/cache/relmapper.c). All numbers are of 32 bits, in the byte order of the server, which is little-endian:
 *
 *   0  magic 0x592717    4  number of mappings    8  mappings of 8 bytes: OID, file number    then  CRC-32C of all before
 *
 * There is room for 62 mappings up to PostgreSQL 15 (512 bytes), and for 64 since then (524).
 */
import { crc32c } from '@node-rs/crc32'
import { WalrxError } from '../../primitives/errors.ts'

/** The map of the shared catalogs. */
export const sharedRelationMap = 'global/pg_filenode.map'

const magic = 0x592717
const headBytes = 8
const mappingBytes = 8
/** By the size of the file. */
const roomBySize: ReadonlyMap<number, number> = new Map([
  [512, 62],
  [524, 64],
])

/**
 * Reads a map.
 * @param at names it in errors
 * @returns file numbers by OID
 * @throws WALRX_BACKUP_UNSUPPORTED for a size or a magic number that no known server writes; WALRX_BACKUP_DAMAGED for a wrong CRC
 */
export function readRelationMap(file: Buffer, at: string): ReadonlyMap<number, number> {
  const room = roomBySize.get(file.length)
  if (room === undefined || file.readUInt32LE(0) !== magic) {
    throw new WalrxError('WALRX_BACKUP_UNSUPPORTED', `${at} is no relation map that walrx knows: ${file.length} bytes`)
  }
  const end = headBytes + room * mappingBytes
  const [sum, listed] = [crc32c(file.subarray(0, end)), file.readUInt32LE(end)]
  const count = file.readUInt32LE(4)
  if (sum !== listed || count > room) {
    throw new WalrxError('WALRX_BACKUP_DAMAGED', `${at} has the CRC-32C ${sum}, but says ${listed}`)
  }
  return new Map(
    Array.from({ length: count }, (_, index) => {
      const offset = headBytes + index * mappingBytes
      return [file.readUInt32LE(offset), file.readUInt32LE(offset + 4)]
    }),
  )
}
