/** `walrx wal-show`: which WAL the archive holds, and to which moments it can bring a cluster. */
import { readArchive } from '../../catalog/window/shown-archive.ts'
import { openStorage } from '../../config/open-storage.ts'
import { WalReader } from '../../walg/wal/wal-reader.ts'
import type { Command } from '../command.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'
import { walToJson } from '../terminal/wal/wal-show-json.ts'
import { walToText } from '../terminal/wal/wal-show-text.ts'
import { throwFirst } from '../terminal/what-is-wrong.ts'

/** See the file's header. */
export const walShow: Command<'wal-show'> = {
  name: 'wal-show',
  positionals: [],
  examples: [
    { call: 'walrx wal-show', means: 'timelines, their segments, what is missing, and what can be restored' },
    {
      call: "walrx wal-show --json | jq '.[].missing_segments'",
      means: "the same in the shape of WAL-G's --detailed-json",
    },
    {
      call: "walrx wal-show --json | jq -r '.[-1].restore_windows[-1].end_time'",
      means: 'the last moment that the archive can bring a cluster to',
    },
  ],
  async run({ log, options, signals, stdout }) {
    const storage = await openStorage(options)
    const signal = signals.drain
    try {
      const asJson = options.json || options.detailedJson
      const archive = await readArchive(new WalReader(storage), {
        segmentSize: segmentSizeOf(options),
        withBackups: !options.withoutBackups,
        asJson,
        signal,
      })
      if (asJson) await writeAll(stdout, walToJson(archive), signal)
      else await writeAll(stdout, [walToText(archive, storage.location)], signal)
      throwFirst(archive.problems, log)
      return 0
    } finally {
      await storage.close()
    }
  },
}

/** Characters that are written at once. */
const pieceCharacters = 64 * 1024

/** Writes the pieces, only as fast as they are read. */
async function writeAll(to: NodeJS.WritableStream, pieces: Iterable<string>, signal: AbortSignal): Promise<void> {
  let text = ''
  const flush = () => new Promise<void>((resolve) => void to.write(text, () => resolve()))
  for (const piece of pieces) {
    text += piece
    if (text.length < pieceCharacters) continue
    signal.throwIfAborted()
    await flush()
    text = ''
  }
  await flush()
}
