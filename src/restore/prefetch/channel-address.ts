/** Where a prefetcher listens. Apart from the protocol, which most calls of wal-fetch do not load. */
import { randomBytes } from 'node:crypto'

/** How wal-fetch reaches a prefetcher; only the owner of the data directory can read it. */
export interface ChannelAddress {
  /** Name of the socket, without the zero byte that makes it abstract. */
  readonly name: string
  /** What wal-fetch sends first: 32 hex digits. */
  readonly secret: string
}

/** An address that nobody else has. */
export function newAddress(): ChannelAddress {
  return { name: `walrx-prefetch-${randomBytes(16).toString('hex')}`, secret: randomBytes(16).toString('hex') }
}
