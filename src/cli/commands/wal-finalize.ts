/** `walrx wal-finalize`: makes an ordinary segment of the last, unfinished one of a timeline. */
import { finalizeTimeline, type FinalizedSegment, setAside } from '../../catalog/wal-finalize.ts'
import { openCodec, openStorage } from '../../config/open-storage.ts'
import { systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { formatLsn } from '../../postgres/lsn.ts'
import { walFileKind } from '../../postgres/wal/wal-file.ts'
import { checkKeys } from '../../walg/wal/key-check.ts'
import { WalArchive } from '../../walg/wal/wal-archive.ts'
import type { Command } from '../command.ts'
import { counted } from '../terminal/human-size.ts'

/** See the file's header. */
export const walFinalize: Command<'wal-finalize'> = {
  name: 'wal-finalize',
  positionals: [],
  examples: [
    { call: 'walrx wal-finalize --dry-run', means: 'show how far WAL-G will be able to recover' },
    { call: 'walrx wal-finalize', means: 'when server and receiver are gone: let WAL-G recover to the same byte' },
    {
      call: 'walrx wal-finalize --timeline 1',
      means: 'also what an old primary wrote after the LSN at which timeline 2 began',
    },
  ],
  async run({ log, options, signals, stdout }) {
    const name = options.setAside
    if (name !== undefined && !['segment', 'history'].includes(walFileKind(name) ?? '')) {
      throw new WalrxError(
        'WALRX_USAGE',
        `--set-aside ${name}: not the name of a segment (24 hex digits) or of a history file (8 hex digits and .history)`,
        { hint: 'walrx wal-show lists the timelines and segments of the archive' },
      )
    }
    const storage = await openStorage(options)
    const signal = signals.drain
    try {
      if (name !== undefined) {
        const objects = await setAside(storage, name, { signal })
        const text = `moved ${counted(objects, 'object')} of ${name} to walrx_005/aside\n`
        stdout.write(options.json ? `${formatJson({ set_aside: name, objects })}\n` : text)
        return 0
      }
      await checkKeys(storage, { reader: 'wal-finalize', signal })
      const done = await finalizeTimeline({
        archive: new WalArchive(storage, openCodec(options)),
        timeline: options.finalizeTimeline,
        onPastFork: (segment, { switchpoint, timeline }) =>
          log.warn('a newer timeline forked off this one: WAL after the fork stays as it is', {
            segment,
            newTimeline: timeline,
            forkedAt: formatLsn(switchpoint),
            hint: `to make segments of it too: walrx wal-finalize --timeline ${parseInt(segment.slice(0, 8), 16)}`,
          }),
        onChunksKept: (segment, error) =>
          log.warn('the segment is whole, and its chunks stay: the storage lets us remove nothing', { segment, error }),
        force: options.force,
        dryRun: options.dryRun,
        nowMs: systemClock.now(),
        signal,
      })
      if (done.length === 0) log.info('the archive has no unfinished segment to make an ordinary one of')
      stdout.write(options.json ? `${formatJson(done.map(toJson))}\n` : done.map(toText).join(''))
      return 0
    } finally {
      await storage.close()
    }
  },
}

function toJson({ endLsn, outcome, segment }: FinalizedSegment): { segment: string; end_lsn: string; outcome: string } {
  return { segment, end_lsn: formatLsn(endLsn), outcome }
}

function toText({ endLsn, outcome, segment }: FinalizedSegment): string {
  return `${segment} ${outcome}, with WAL up to ${formatLsn(endLsn)}\n`
}
