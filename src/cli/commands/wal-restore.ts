/** `walrx wal-restore TARGET SOURCE`: the WAL that pg_rewind needs, into two data directories. */
import { openStorage } from '../../config/open-storage.ts'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { formatJson, type JsonValue } from '../../primitives/json/json.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import {
  describeDivergence,
  type RestoredDirectory,
  type RestoredWal,
  restoreWal,
} from '../../restore/rewind/wal-restore.ts'
import type { FetchTo } from '../../restore/rewind/data-directory.ts'
import { fetchWalFile } from '../../restore/wal/wal-fetch.ts'
import type { Command } from '../command.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'

/** The storage itself tries again for a while. */
const retryTimeoutMs = 0

/** See the file's header. */
export const walRestore: Command<'wal-restore', 'target' | 'source'> = {
  name: 'wal-restore',
  positionals: [
    { name: 'target', help: 'data directory of the old primary, which pg_rewind is to rewind' },
    { name: 'source', help: 'data directory of the server that was promoted' },
  ],
  examples: [
    {
      call: 'walrx wal-restore /srv/old-primary /srv/new-primary',
      means: "what pg_rewind needs of both servers' WAL, where their pg_wal no longer has it",
    },
  ],
  async run({ log, options, positionals, signals, stdout }) {
    const storage = await openStorage(options)
    const segmentSize = segmentSizeOf(options)
    const signal = signals.drain
    const fetch: FetchTo = async (name, dest, dataDir) => {
      try {
        const common = { storage, name, dest, dataDir, segmentSize, retryTimeoutMs, signal, log }
        return (await fetchWalFile({ ...common, isStandby: false, wholeOnly: true })) === 'delivered'
      } catch (error) {
        if (hasCode(error, 'WALRX_ARCHIVE_HOLE')) return false
        throw error
      }
    }
    try {
      const restored = await restoreWal({ ...positionals, fetch, segmentSize, signal })
      stdout.write(options.json ? `${formatJson(toJson(restored))}\n` : toText(restored))
      const { missing, path } = restored.target.missing.length > 0 ? restored.target : restored.source
      if (missing.length === 0) return 0
      throw new WalrxError(
        'WALRX_ARCHIVE_HOLE',
        `neither ${path}/pg_wal nor the archive has ${missing[0]}${missing.length > 1 ? ` and ${missing.length - 1} more` : ''}`,
        { hint: 'without that WAL restore a backup instead: walrx backup-fetch' },
      )
    } finally {
      await storage.close()
    }
  },
}

function toJson(restored: RestoredWal): JsonValue {
  const { checkpoint, divergence, source, target } = restored
  return {
    diverged_at: divergence?.lsn ?? null,
    common_timeline: divergence?.timeline ?? null,
    last_common_checkpoint: checkpoint ?? null,
    target: directoryToJson(target),
    source: directoryToJson(source),
  }
}

function directoryToJson({ fetched, missing, path, timeline }: RestoredDirectory): JsonValue {
  return { data_dir: path, timeline, restored: [...fetched], missing: [...missing] }
}

function toText(restored: RestoredWal): string {
  const { checkpoint, source, target } = restored
  const from = checkpoint === undefined ? '' : `; the last checkpoint before that is at ${formatLsn(checkpoint)}`
  const lines = [target, source].flatMap(({ fetched, missing, path }) => [
    ...fetched.map((name) => `restored ${name} into ${path}/pg_wal`),
    ...missing.map((name) => `missing ${name} of ${path}/pg_wal`),
  ])
  const isDone = restored.divergence !== undefined && lines.length === 0
  return [`${describeDivergence(restored)}${from}`, ...lines, ...(isDone ? ['no WAL is missing'] : [])]
    .map((line) => `${line}\n`)
    .join('')
}
