/** One call of an archive_command, within the test. */
import { openWriteCodec } from '../../src/compression/codecs.ts'
import { silentLog } from '../../src/observe/log.ts'
import { systemClock } from '../../src/primitives/clock.ts'
import { WalPusher } from '../../src/push/wal-pusher.ts'
import type { PushOutcome } from '../../src/push/wal-push.ts'
import type { Storage } from '../../src/storage/storage.ts'

/**
 * Archives one file, and nothing ahead.
 * @param knowledgePath as GuardedArchive has it; default none
 */
export async function pushOnce(storage: Storage, path: string, knowledgePath?: string): Promise<PushOutcome> {
  const pusher = new WalPusher({
    storage,
    codec: openWriteCodec('zstd'),
    identity: storage.location,
    knowledgePath,
    log: silentLog,
    clock: systemClock,
    memoryBytes: undefined,
    concurrency: 1,
    filesMax: 1,
    renameReady: false,
    isLasting: false,
  })
  try {
    return await pusher.push(path, new AbortController().signal)
  } finally {
    pusher.destroy()
  }
}
