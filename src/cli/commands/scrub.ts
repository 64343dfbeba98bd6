/** `walrx scrub`: every page of a running server, read and verified where it lies. */
import { scrub } from '../../backup/scrub.ts'
import { formatJson } from '../../primitives/json/json.ts'
import type { exitStatuses } from '../../primitives/errors.ts'
import type { Command } from '../command.ts'
import { openProgress } from '../terminal/progress.ts'
import { serverOf } from '../settings/server-of.ts'

/** Of {@link exitStatuses}: a damaged cluster ends as a damaged archive does. */
const damagedStatus = 5 satisfies keyof typeof exitStatuses

/** See the file's header. */
export const scrubCommand: Command<'scrub'> = {
  name: 'scrub',
  positionals: [],
  examples: [
    { call: 'walrx scrub --dbname "host=db1 user=walrx"', means: 'exit status 5 when a page is damaged' },
    { call: 'PGSERVICE=db1 walrx scrub --max-rate 50MB --json', means: 'slowly, for a script' },
  ],
  async run(context) {
    const { log, options, settings, signals, stderr, stdout } = context
    const progress = await openProgress({ what: 'scrub', stream: stderr, environment: settings.environment, log })
    try {
      const { bytes, failures, host, systemId } = await scrub({
        server: serverOf(context, true),
        checkpoint: options.checkpoint,
        maxRateKb: options.maxRateBytes === undefined ? undefined : Math.floor(options.maxRateBytes / 1024),
        log,
        signal: signals.drain,
        onProgress: (done, total) => progress.update(done, total),
      })
      progress.stop()
      if (options.json) {
        const damaged = failures.map(({ blocks, count, file }) => ({ file, blocks: [...blocks], count }))
        const status = failures.length > 0 ? 'DAMAGED' : 'OK'
        stdout.write(`${formatJson({ host, system_identifier: systemId, status, bytes, damaged })}\n`)
      } else {
        for (const { blocks, count, file } of failures) {
          const more = count > blocks.length ? ` and ${count - blocks.length} more` : ''
          stdout.write(`${file}: damaged blocks ${blocks.join(', ')}${more}\n`)
        }
        const verdict = failures.length > 0 ? `${failures.length} damaged files` : 'no damage'
        stdout.write(`${host}: ${bytes} bytes read, ${verdict}\n`)
      }
      return failures.length > 0 ? damagedStatus : 0
    } finally {
      progress.stop()
    }
  },
}
