/** `walrx copy --to ARCHIVE`: copies the archive to another storage, all of it or a window. */
import { type CopySummary, copyArchive } from '../../copy/copy-archive.ts'
import type { CopyRequest } from '../../copy/scope/copy-request.ts'
import type { Settings } from '../../config/load.ts'
import { openStorage } from '../../config/open-storage.ts'
import { openOtherArchive, type OtherArchive } from '../../config/other-archive.ts'
import { refuseSamePlace } from '../../config/same-place.ts'
import { redactText } from '../../observe/redact.ts'
import { systemClock } from '../../primitives/clock.ts'
import { StoppedError, isAbort, WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import type { Storage } from '../../storage/storage.ts'
import type { Command, CommandContext } from '../command.ts'
import { type CopyEnd, readCopyEnd } from '../settings/copy-ends.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'
import { durationText } from '../terminal/duration-text.ts'
import { counted, humanSize } from '../terminal/human-size.ts'
import { openProgress } from '../terminal/progress.ts'
import { StoreWaits } from '../terminal/store-waits.ts'

/** See the file's header. */
export const copyCommand: Command<'copy', never> = {
  name: 'copy',
  positionals: [],
  examples: [
    { call: 'walrx copy --to s3://backups/db1', means: 'copy all of the archive into a bucket; again: what is new' },
    {
      call: 'walrx copy --to /srv/mirror --from "2026-03-01 12:00:00+01" --verify',
      means: 'copy what a recovery to that time, or any later one, needs, and compare every byte',
    },
    {
      call: 'walrx copy --from /etc/walg.yaml --to /etc/mirror.yaml -b LATEST',
      means: "WAL-G's words: copy the newest backup between the archives of two config files",
    },
  ],
  async run(context) {
    const { options, settings } = context
    const to = readCopyEnd('--to', options.copyTo)
    const from = readCopyEnd('--from', options.copyFrom)
    const request = requestOf(context, from, to)
    const { archive: place } = to
    if (!place) {
      throw new WalrxError('WALRX_USAGE', 'no archive to copy to is given', {
        hint: 'add --to with s3://BUCKET/PATH, a directory that exists, or a config file',
      })
    }
    const waits = new StoreWaits(context.log)
    await using opened = new AsyncDisposableStack()
    const source = await openSource(settings, from, waits)
    opened.defer(() => source.storage.close())
    const target = await openOtherArchive(place, settings, waits.onTrouble)
    opened.defer(() => target.storage.close())
    for (const { hint, level, message, name } of [...source.notices, ...target.notices])
      context.log[level](message, { name, ...(hint !== undefined && { hint }) })
    await refuseSamePlace(source, target)
    try {
      return await copy(context, source.storage, target.storage, request, waits)
    } catch (error) {
      throw cleared(error, [...source.secrets, ...target.secrets])
    }
  },
}

function requestOf({ options }: CommandContext<'copy', never>, from: CopyEnd, to: CopyEnd): CopyRequest {
  const { copyBackup: backup, withHistory } = options
  if (backup !== undefined && (from.window || to.window)) {
    throw new WalrxError('WALRX_USAGE', '--backup-name is given together with a window', {
      hint: `a window from that backup on is --from ${backup}`,
    })
  }
  return { backup, withHistory, from: from.window, to: to.window }
}

async function openSource(settings: Settings<'copy'>, from: CopyEnd, waits: StoreWaits): Promise<OtherArchive> {
  if (from.archive) return openOtherArchive(from.archive, settings, waits.onTrouble)
  const storage = await openStorage(settings.values, waits.onTrouble)
  return { storage, endpoint: settings.values.awsEndpoint, secrets: [], notices: [] }
}

async function copy(
  context: CommandContext<'copy', never>,
  source: Storage,
  target: Storage,
  request: CopyRequest,
  waits: StoreWaits,
): Promise<number> {
  const { log, options, settings, signals, stderr, stdout } = context
  const begun = performance.now()
  const open = (what: string) => openProgress({ what, stream: stderr, environment: settings.environment, log, waits })
  let progress = await open('copy')
  try {
    const summary = await copyArchive({
      ...{ source, target, request, log },
      segmentSize: segmentSizeOf(options),
      concurrency: options.downloadConcurrency,
      verify: options.verifyCopy,
      dryRun: options.dryRun,
      clock: systemClock,
      signal: signals.drain,
      onProgress: (bytes, totalBytes) => progress.update(bytes, totalBytes),
      async onVerify() {
        progress.stop()
        progress = await open('verify')
      },
    })
    progress.stop()
    if (!summary.hasTail) {
      log.warn('the tail was replaced again and again while it was copied: the copy ends a little earlier', {
        hint: 'run walrx copy again',
      })
    }
    const seconds = (performance.now() - begun) / 1000
    const text = { source, target, dryRun: options.dryRun, seconds }
    stdout.write(options.json ? `${formatJson(toJson(summary, text))}\n` : toText(summary, text))
    return 0
  } catch (error) {
    if (isAbort(error))
      throw new StoppedError('what was copied stays: the same command goes on where this one ended', error)
    throw error
  } finally {
    progress.stop()
  }
}

interface Shown {
  readonly source: Storage
  readonly target: Storage
  readonly dryRun: boolean
  readonly seconds: number
}

function toJson({ backups, bytes, compared, objects, plan, scope }: CopySummary, shown: Shown) {
  return {
    status: shown.dryRun ? 'PLANNED' : 'OK',
    from: shown.source.location,
    to: shown.target.location,
    backups: [...backups],
    backups_present: scope.backups.length - plan.backups.length,
    objects,
    bytes,
    objects_present: plan.present.objects,
    bytes_present: plan.present.bytes,
    objects_compared: compared,
    seconds: Math.round(shown.seconds * 1000) / 1000,
  }
}

function toText(summary: CopySummary, { dryRun, seconds, target }: Shown): string {
  const { backups, bytes, compared, objects, plan } = summary
  const rate = seconds > 0 ? `, ${humanSize(Math.round(bytes / seconds))}/s` : ''
  const counts = `${counted(backups.length, 'backup')}, ${counted(objects, 'object')}, ${humanSize(bytes)}`
  const there = `${counted(plan.present.objects, 'object')} (${humanSize(plan.present.bytes)}) ${plan.present.objects === 1 ? 'was' : 'were'} there`
  const lines = dryRun
    ? [`would copy to ${target.location}: ${counts}; ${there}`]
    : [`copied to ${target.location}: ${counts} in ${durationText(seconds)}${rate}; ${there}`]
  if (compared > 0)
    lines.push(`compared byte by byte: ${counted(compared, 'object')}, ${compared === 1 ? '' : 'all '}the same`)
  lines.push(...backups.map((name) => `  ${name}`))
  return `${lines.join('\n')}\n`
}

/** The secrets of another config file are not among those that the report knows. */
function cleared(error: unknown, secrets: readonly string[]): unknown {
  if (!(error instanceof WalrxError) || secrets.length === 0) return error
  const message = redactText(error.message, secrets)
  const hint = error.hint === undefined ? undefined : redactText(error.hint, secrets)
  if (message === error.message && hint === error.hint) return error
  return new WalrxError(error.code, message, { cause: error, ...(hint !== undefined && { hint }) })
}
