/** `walrx daemon`: wal-push and wal-fetch on a unix socket, in WAL-G's protocol. */
import { stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { extensions } from '../../compression/codecs.ts'
import { openStorage } from '../../config/open-storage.ts'
import type { OptionValues } from '../../config/options/options.ts'
import { DaemonRequests } from '../../daemon/daemon-requests.ts'
import { DaemonServer } from '../../daemon/daemon-server.ts'
import { ServiceNotice } from '../../daemon/service-notice.ts'
import type { Logger } from '../../observe/log.ts'
import { walFileKind } from '../../postgres/wal/wal-file.ts'
import { systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { fetchWalFile } from '../../restore/wal/wal-fetch.ts'
import { sweepTemporaries } from '../../restore/wal/wal-temporaries.ts'
import type { Storage } from '../../storage/storage.ts'
import type { Command } from '../command.ts'
import { hasStandbySignal } from '../exit-status.ts'
import { pusherOf } from '../settings/pusher-of.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'

/** How long uploads that nobody has asked for yet may still take at the end. */
const aheadWaitMs = 10_000

/** See the file's header. */
export const daemonCommand: Command<'daemon', 'socket'> = {
  name: 'daemon',
  positionals: [{ name: 'socket', help: 'path of the socket; it is made, and removed at the end' }],
  examples: [
    {
      call: 'walrx daemon /tmp/walrx.sock --pgdata /srv/pgdata --s3-prefix s3://backups/db1',
      means: 'serve the server of that data directory',
    },
  ],
  async run({ log, options, positionals, settings, signals }) {
    const dataDir = await dataDirectoryOf(options.dataDirectory)
    const storage = await openStorage(options)
    const pusher = pusherOf({ storage, options, log, isLasting: true })
    const requests = new DaemonRequests({
      dataDir,
      pusher,
      fetch: fetcher({ dataDir, options, storage, log, drain: signals.drain }),
      uploadTimeoutMs: options.daemonUploadTimeoutMs,
      clock: systemClock,
      log,
    })
    const server = new DaemonServer({
      handle: (frame, signal) => requests.handle(frame, signal),
      clock: systemClock,
      log,
    })
    const notice = new ServiceNotice({ environment: settings.environment, clock: systemClock, log })
    const release = ignoreLogSignal()
    try {
      await storage.keyring?.keys()
      await server.listen(positionals.socket)
      log.info('the daemon listens', { socket: positionals.socket, dataDirectory: dataDir, archive: storage.location })
      notice.ready()
      if (!signals.drain.aborted) {
        await new Promise<void>((stopped) => signals.drain.addEventListener('abort', () => stopped(), { once: true }))
      }
      notice.stopping()
      log.info('stopping: requests under way are finished')
      await server.close(signals.now)
      await pusher.end(signals.now.aborted ? 0 : aheadWaitMs)
      return 0
    } finally {
      release()
      pusher.destroy()
      await storage.close()
    }
  },
}

async function dataDirectoryOf(path: string | undefined): Promise<string> {
  if (path === undefined) {
    throw new WalrxError('WALRX_USAGE', 'no data directory is given', {
      hint: "set PGDATA, or give --pgdata: names of files are resolved in the server's data directory",
    })
  }
  const stats = await stat(join(path, 'pg_wal')).catch(() => undefined)
  if (stats?.isDirectory()) return resolve(path)
  throw new WalrxError('WALRX_USAGE', `${path} is no data directory that can be read: it has no pg_wal`, {
    hint: "PGDATA must name the server's data directory, and walrx run as a user who may read and write it",
  })
}

/** What a fetch needs of the command. */
interface FetchSource {
  readonly dataDir: string
  readonly options: OptionValues<'daemon'>
  readonly storage: Storage
  readonly log: Logger
  /** PostgreSQL asks again: a fetch is not finished when the daemon stops. */
  readonly drain: AbortSignal
}

function fetcher({ dataDir, drain, log, options, storage }: FetchSource) {
  const segmentSize = segmentSizeOf(options)
  return async (name: string, dest: string, signal: AbortSignal): Promise<'delivered' | 'absent'> => {
    const isStandby = hasStandbySignal(dataDir)
    if (walFileKind(name) !== 'segment') await sweepTemporaries(dest)
    const stop = new AbortController()
    const onStop = () => stop.abort()
    for (const each of [drain, signal]) each.addEventListener('abort', onStop, { once: true })
    if (drain.aborted || signal.aborted) onStop()
    try {
      return await fetchWalFile({
        storage,
        name,
        dest,
        dataDir,
        extension: extensions[options.compressionMethod],
        segmentSize,
        retryTimeoutMs: options.fetchRetryTimeoutMs,
        isStandby,
        wholeOnly: isStandby && !options.standbyTail,
        signal: stop.signal,
        log,
      })
    } finally {
      for (const each of [drain, signal]) each.removeEventListener('abort', onStop)
    }
  }
}

/** WAL-G's daemon opens its log again at SIGUSR1; without a listener, Node would open its debugger to the machine. */
function ignoreLogSignal(): () => void {
  const ignore = () => {}
  process.on('SIGUSR1', ignore)
  return () => void process.off('SIGUSR1', ignore)
}
