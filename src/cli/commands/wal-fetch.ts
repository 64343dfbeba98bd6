/** `walrx wal-fetch`: one WAL file for a restore_command. */
import { basename, dirname } from 'node:path'
import { openStorage } from '../../config/open-storage.ts'
import { extensions } from '../../compression/codecs.ts'
import { walFileKind } from '../../postgres/wal/wal-file.ts'
import { systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { settledWithin } from '../../primitives/wait.ts'
import { PrefetchClient, type PrefetchStart } from '../../restore/prefetch/prefetch-client.ts'
import { fetchWalFile } from '../../restore/wal/wal-fetch.ts'
import { sweepTemporaries } from '../../restore/wal/wal-temporaries.ts'
import type { Storage } from '../../storage/storage.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import type { Command, CommandContext } from '../command.ts'
import { hasStandbySignal } from '../exit-status.ts'
import { flagArguments, ownProgram } from '../settings/calls/own-program.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'

type Context = CommandContext<'wal-fetch', 'name' | 'dest'>

const MiB = 1024 * 1024

/** The archive positively lacks the file, and this is its end. */
const absentStatus = 74

/** How long a delivered file waits for a prefetcher to be started. */
const prefetchStartMaxMs = 1_000

/** We try again ourselves, and then know what was wrong. */
const s3RetriesMax = 1

/** See the file's header. */
export const walFetch: Command<'wal-fetch', 'name' | 'dest'> = {
  name: 'wal-fetch',
  positionals: [
    { name: 'name', help: 'name of the WAL file: %f of a restore_command' },
    { name: 'dest', help: 'where it goes: %p of a restore_command' },
  ],
  examples: [
    { call: 'walrx wal-fetch 000000010000000000000001 /tmp/segment', means: 'get one segment' },
    { call: 'walrx restore-command', means: 'print the restore_command that uses this' },
  ],
  async run(context) {
    const { log, options, positionals, signals } = context
    const { dest, name } = positionals
    const kind = walFileKind(name)
    if (kind === undefined) throw notWal(name)
    const segmentSize = segmentSizeOf(options)
    const isStandby = hasStandbySignal()
    const prefetch = openPrefetch(context)
    if (kind === 'segment') {
      if (await prefetch?.take(name, signals.drain)) return 0
    } else {
      await prefetch?.sweep()
      await sweepTemporaries(dest)
    }
    const storage = await openStorage({
      ...options,
      s3MaxRetries: Math.min(options.s3MaxRetries ?? s3RetriesMax, s3RetriesMax),
    })
    let starting: Promise<void> | undefined
    try {
      const outcome = await fetchWalFile({
        storage,
        name,
        dest,
        dataDir: dataDirOf(dest),
        extension: extensions[options.compressionMethod],
        segmentSize,
        retryTimeoutMs: options.fetchRetryTimeoutMs,
        isStandby,
        // A script may call from elsewhere, with the whole path.
        wholeOnly: (isStandby || hasStandbySignal(dataDirOf(dest))) && !options.standbyTail,
        onSegment:
          prefetch &&
          ((segmentSize, isFollowed) => {
            starting = startPrefetching({ prefetch, storage, name, segmentSize, isFollowed, signal: signals.drain })
          }),
        signal: signals.drain,
        log,
      })
      if (starting) await settledWithin(starting, prefetchStartMaxMs, systemClock)
      return outcome === 'delivered' ? 0 : absentStatus
    } finally {
      await storage.close()
    }
  },
}

/** Where %p leads: from the data directory in a server, from elsewhere in pg_rewind. */
function dataDirOf(dest: string): string {
  return basename(dirname(dest)) === 'pg_wal' ? dirname(dirname(dest)) : '.'
}

function notWal(name: string): WalrxError {
  return new WalrxError('WALRX_USAGE', `"${name}" is not the name of a WAL file`, {
    hint: 'PostgreSQL gives it as %f: 24 hex digits, or 8 hex digits and .history',
  })
}

/** Undefined where nothing is to be prefetched. */
function openPrefetch({ log, options, positionals, settings }: Context): PrefetchClient | undefined {
  if (options.recoveryPid === undefined || options.downloadConcurrency === 1) return undefined
  const startPrefetcher = async ({ first, folder, segmentSize }: PrefetchStart) => {
    // Loaded here, because most calls start none.
    const { startDetached } = await import('../../restore/prefetch/detached-process.ts')
    const { main, node } = ownProgram()
    const flags = [...flagArguments(settings, 'wal-prefetch'), `--pg-wal-size=${segmentSize / MiB}`]
    return startDetached(node, [...process.execArgv, main, 'wal-prefetch', ...new Set(flags), '--', first, folder])
  }
  const { prefetchBytes: windowBytes, recoveryPid: startupPid } = options
  return PrefetchClient.open({ dest: positionals.dest, startupPid, windowBytes, startPrefetcher, log })
}

/** A segment that was delivered. */
interface Following {
  readonly prefetch: PrefetchClient
  readonly storage: Storage
  readonly name: string
  readonly segmentSize: number
  /** Whether a later segment is there; undefined where nobody has looked. */
  readonly isFollowed: boolean | undefined
  readonly signal: AbortSignal
}

/** Starts a prefetcher if something follows in the archive: at its end, it would only wait. */
async function startPrefetching({
  isFollowed,
  name,
  prefetch,
  segmentSize,
  signal,
  storage,
}: Following): Promise<void> {
  const hasMore = isFollowed ?? (await new WalReader(storage).hasLaterSegment(name, { signal }).catch(() => false))
  if (hasMore) await prefetch.startBehind(name, segmentSize)
}
