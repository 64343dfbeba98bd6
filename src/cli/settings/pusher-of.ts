/** What wal-push and the daemon archive with, by their options. */
import type { OptionValues } from '../../config/options/options.ts'
import { openCodec } from '../../config/open-storage.ts'
import type { Logger } from '../../observe/log.ts'
import { systemClock } from '../../primitives/clock.ts'
import { WalPusher } from '../../push/wal-pusher.ts'
import type { Storage } from '../../storage/storage.ts'

/** What differs between the two. */
export interface PusherOf {
  readonly storage: Storage
  readonly options: OptionValues<'wal-push'>
  readonly log: Logger
  readonly isLasting: boolean
  /** See {@link GuardedArchiveOptions.knowledgePath}. */
  readonly knowledgePath?: string | undefined
}

/** Opens it; nothing is asked of the storage yet. Throws WALRX_USAGE for a codec that cannot be written. */
export function pusherOf({ isLasting, knowledgePath, log, options, storage }: PusherOf): WalPusher {
  return new WalPusher({
    storage,
    codec: openCodec(options),
    identity: `${storage.location} ${options.awsEndpoint ?? ''}`,
    knowledgePath,
    log,
    clock: systemClock,
    memoryBytes: options.memoryBytes,
    concurrency: options.uploadConcurrency,
    filesMax: options.filesPerPush,
    renameReady: options.renameReady,
    isLasting,
  })
}
