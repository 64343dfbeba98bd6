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
    throw new WalrxError('WALRX_USAGE', `WALG_PG_WAL_SIZE is ${megabytes}, and must be a power of two from 1 to 1024`, {
      hint: "set it to the server's wal_segment_size in MB, or unset it: the archive mostly has the size",
    })
  }
  return megabytes * 1024 * 1024
}
