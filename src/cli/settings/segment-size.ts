/** The segment size that WALG_PG_WAL_SIZE says. */
import { WalrxError } from '../../primitives/errors.ts'

/**
 * The configured segment size in bytes; undefined where none is configured.
 * @throws WALRX_USAGE for a size that no server can have
 */
export function segmentSizeOf(options: { readonly walSegmentMegabytes?: number | undefined }): number | undefined {
  const megabytes = options.walSegmentMegabytes
  if (megabytes === undefined) return undefined
  if ((megabytes & (megabytes - 1)) !== 0) {
    throw new WalrxError('WALRX_USAGE', `WALG_PG_WAL_SIZE=${megabytes}: no server has segments of that size`, {
      hint: 'it is a power of two: 1, 2, 4 … 1024',
    })
  }
  return megabytes * 1024 * 1024
}
