/** `walrx status`: how the receivers at one address and the archive are, for people and for monitoring. */
import { readOverview } from '../../catalog/overview/archive-overview.ts'
import { openStorage } from '../../config/open-storage.ts'
import { monitoringStatuses } from '../../check/verdict.ts'
import { redactText } from '../../observe/redact.ts'
import { systemClock } from '../../primitives/clock.ts'
import { hasCode, isAbort, WalrxError } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import { type Concern, concernsOf, readReceivers } from '../../status/receiver-status.ts'
import { parseListenAddress } from '../../status/server.ts'
import type { Command, CommandContext } from '../command.ts'
import { concernsIn, type ShownStatus, statusText, statusToJson } from '../terminal/status/status-text.ts'

/** See the file's header. */
export const statusCommand: Command<'status', never> = {
  name: 'status',
  positionals: [],
  examples: [
    { call: 'walrx status', means: 'the receiver of this machine, and what its archive can restore' },
    { call: `walrx status --json | jq '.receivers[].rpo_seconds'`, means: 'what would be lost with the server now' },
  ],
  async run(context) {
    if (!context.options.monitoring) return await show(context)
    try {
      return await show(context)
    } catch (error) {
      if (isAbort(error)) throw error
      context.log.error('the status could not be read', { error })
      return monitoringStatuses.unknown
    }
  },
}

/** The exit status where something is critical: nothing streams, or WAL is about to be lost. */
const criticalStatus = 3

/** How long a store that fails is waited for: the receivers are shown all the same, and monitoring wants an answer. */
const storePatienceMs = 8_000

async function show(context: CommandContext<'status', never>): Promise<number> {
  const { options, settings, stdout } = context
  refuseNothing(options)
  const [receivers, { archive, error }] = await Promise.all([lookAtReceivers(context), archiveOrError(context)])
  const archiveProblem = error && concernOf(error)
  const concerns = concernsIn({ ...receivers, archive, archiveProblem: undefined })
  const isCritical = concerns.some(({ level }) => level === 'critical')
  const shown: ShownStatus = { ...receivers, archive, archiveProblem }
  const { critical, ok, warning } = monitoringStatuses
  const plugin = isCritical || error ? critical : concerns.length > 0 ? warning : ok
  const status = options.monitoring ? plugin : isCritical ? criticalStatus : (error?.exitStatus ?? 0)
  const text = options.json ? `${formatJson(statusToJson(shown, status))}\n` : statusText(shown)
  await new Promise<void>((resolve) => void stdout.write(redactText(text, settings.secrets), () => resolve()))
  return status
}

/** @throws WALRX_USAGE where nothing is named to be looked at: silence would pass for health */
function refuseNothing({ filePrefix, s3Prefix, statusListen }: CommandContext<'status', never>['options']): void {
  if (parseListenAddress(statusListen) || s3Prefix !== undefined || filePrefix !== undefined) return
  throw new WalrxError('WALRX_USAGE', '--status-listen is off and no archive is named: there is nothing to look at', {
    hint: 'name the address of the status page with --status-listen, or the archive with --s3-prefix or --file-prefix',
  })
}

async function lookAtReceivers({
  options,
  signals,
}: CommandContext<'status', never>): Promise<Omit<ShownStatus, 'archive' | 'archiveProblem'>> {
  const listen = parseListenAddress(options.statusListen)
  if (!listen) return { receivers: [], receiverProblem: undefined }
  try {
    const read = await readReceivers(listen, systemClock, signals.drain)
    const receivers = read.map((receiver) => ({ ...receiver, concerns: concernsOf(receiver) }))
    return { receivers, receiverProblem: receivers.length > 0 ? undefined : noReceiver }
  } catch (error) {
    if (!hasCode(error, 'WALRX_CONNECT_FAILED')) throw error
    return { receivers: [], receiverProblem: { level: 'critical', text: error.message, advice: error.hint ?? '' } }
  }
}

const noReceiver: Concern = {
  level: 'critical',
  text: 'the process at the address of the status page has no receiver',
  advice: 'start walrx wal-receive, or name the address of its status page with --status-listen',
}

interface ArchiveLook {
  readonly archive: ShownStatus['archive']
  /** Why the archive cannot be read. */
  readonly error?: WalrxError
}

/** A store that is out is the moment in which the receivers have to be seen. Settings that are wrong end the command. */
async function archiveOrError(context: CommandContext<'status', never>): Promise<ArchiveLook> {
  try {
    return { archive: await lookAtArchive(context) }
  } catch (error) {
    if (isAbort(error) || !(error instanceof WalrxError) || hasCode(error, 'WALRX_USAGE')) throw error
    return { archive: undefined, error }
  }
}

function concernOf({ hint = 'walrx check finds what is wrong there', message }: WalrxError): Concern {
  return { level: 'critical', text: `the archive cannot be read: ${message}`, advice: hint }
}

async function lookAtArchive({ options, signals }: CommandContext<'status', never>): Promise<ShownStatus['archive']> {
  if (options.s3Prefix === undefined && options.filePrefix === undefined) return undefined
  const storage = await openStorage({ ...options, storePatienceMs })
  try {
    const nowMs = systemClock.now()
    const overview = await readOverview({ storage, segmentSize: undefined, dayCount: 1, nowMs, signal: signals.drain })
    const concerns: Concern[] = overview.problems.map(({ hint = 'walrx info shows more', message }) => {
      return { level: 'warning', text: message, advice: hint }
    })
    if (overview.windows.length === 0) {
      concerns.push({ level: 'warning', text: 'nothing can be restored', advice: 'take a backup: walrx backup-push' })
    }
    return { overview, concerns }
  } finally {
    await storage.close()
  }
}
