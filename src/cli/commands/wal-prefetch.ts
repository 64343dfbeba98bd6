/** `walrx wal-prefetch`: keeps segments ready ahead of a recovering server. Only wal-fetch starts it. */
import { extensions } from '../../compression/codecs.ts'
import { openStorage } from '../../config/open-storage.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { runPrefetcher } from '../../restore/prefetch/prefetch-run.ts'
import { RequiredSystems } from '../../restore/wal/required-systems.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import type { Command } from '../command.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'

/** We try again ourselves, and then know what was wrong. */
const s3RetriesMax = 1

/** See the file's header. */
export const walPrefetch: Command<'wal-prefetch', 'name' | 'folder'> = {
  name: 'wal-prefetch',
  positionals: [
    { name: 'name', help: 'name of the segment that the server wants next' },
    { name: 'folder', help: 'the folder that wal-fetch has made for it' },
  ],
  examples: [],
  async run({ log, options, positionals, signals }) {
    const segmentSize = segmentSizeOf(options)
    if (segmentSize === undefined)
      throw new WalrxError('WALRX_USAGE', 'wal-prefetch needs --pg-wal-size', {
        hint: 'wal-fetch starts wal-prefetch with all that it needs: do not run it yourself',
      })
    const storage = await openStorage({
      ...options,
      s3MaxRetries: Math.min(options.s3MaxRetries ?? s3RetriesMax, s3RetriesMax),
    })
    try {
      const systems = new RequiredSystems({ storage, log })
      const end = await runPrefetcher({
        reader: new WalReader(storage),
        folder: positionals.folder,
        first: positionals.name,
        segmentSize,
        windowBytes: options.prefetchBytes,
        concurrency: options.downloadConcurrency,
        extension: extensions[options.compressionMethod],
        systems: () => systems.get(signals.drain),
        signal: signals.drain,
        log,
      })
      log.info('prefetcher ended', { end })
      return 0
    } finally {
      await storage.close()
    }
  },
}
