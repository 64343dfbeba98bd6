/** `walrx info`: all that the archive holds, on one screen. */
import { readOverview } from '../../catalog/overview/archive-overview.ts'
import { openStorage } from '../../config/open-storage.ts'
import { systemClock } from '../../primitives/clock.ts'
import { formatJson } from '../../primitives/json/json.ts'
import type { Command } from '../command.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'
import { overviewToJson } from '../terminal/overview/overview-json.ts'
import { overviewText } from '../terminal/overview/overview-text.ts'
import { throwFirst } from '../terminal/what-is-wrong.ts'

/** See the file's header. */
export const info: Command<'info'> = {
  name: 'info',
  positionals: [],
  examples: [
    { call: 'walrx info', means: 'the cluster, to which moments it can be restored, its backups, WAL and storage' },
    { call: 'walrx info --price-per-gb-month 0.023', means: 'also what the storage costs in a month' },
    {
      call: "walrx info --json | jq '.newest_wal.written_seconds_ago'",
      means: 'how long ago the newest WAL came, for a script',
    },
  ],
  async run({ log, options, signals, stdout }) {
    const storage = await openStorage(options)
    try {
      const overview = await readOverview({
        storage,
        segmentSize: segmentSizeOf(options),
        dayCount: options.days,
        nowMs: systemClock.now(),
        signal: signals.drain,
      })
      const price = options.pricePerGbMonth
      const text = options.json ? `${formatJson(overviewToJson(overview, price))}\n` : overviewText(overview, price)
      await new Promise<void>((resolve) => void stdout.write(text, () => resolve()))
      throwFirst(overview.problems, log)
      return 0
    } finally {
      await storage.close()
    }
  },
}
