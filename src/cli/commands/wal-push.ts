/** `walrx wal-push`: one WAL file of the server's disk, for an archive_command. */
import { openStorage } from '../../config/open-storage.ts'
import { knowledgePath } from '../../push/known-archive.ts'
import type { Command } from '../command.ts'
import { pusherOf } from '../settings/pusher-of.ts'

/** PostgreSQL asks again by itself, and cannot shut down meanwhile. */
const storePatienceMs = 30_000

/** How long files that are archived ahead may still take when the one that was asked for is archived. */
const aheadWaitMs = 30_000

/** See the file's header. */
export const walPush: Command<'wal-push', 'path'> = {
  name: 'wal-push',
  positionals: [{ name: 'path', help: 'the WAL file: %p of an archive_command' }],
  examples: [
    {
      call: 'walrx wal-push pg_wal/000000010000000000000001',
      means: "what archive_command = 'walrx wal-push %p' runs",
    },
  ],
  async run({ log, options, positionals, signals }) {
    const { path } = positionals
    const storage = await openStorage({ ...options, storePatienceMs })
    try {
      const pusher = pusherOf({ storage, options, log, isLasting: false, knowledgePath: knowledgePath(path) })
      try {
        await pusher.push(path, signals.drain)
        await pusher.end(signals.drain.aborted ? 0 : aheadWaitMs)
        return 0
      } finally {
        pusher.destroy()
      }
    } finally {
      await storage.close()
    }
  },
}
