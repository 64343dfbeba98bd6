/** wal-fetch without retries, from a data directory without a server. */
import { silentLog } from '../../../src/observe/log.ts'
import { fetchWalFile, type WalFetchOptions } from '../../../src/restore/wal/wal-fetch.ts'

/** Fetches a file, for a primary that is silent; any option may be another one. */
export function fetchOnce(
  options: Pick<WalFetchOptions, 'storage' | 'name' | 'dest'> & Partial<WalFetchOptions>,
): Promise<'delivered' | 'absent'> {
  return fetchWalFile({
    retryTimeoutMs: 0,
    isStandby: false,
    signal: new AbortController().signal,
    log: silentLog,
    ...options,
  })
}
