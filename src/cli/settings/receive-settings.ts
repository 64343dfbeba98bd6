/** What the options of wal-receive say, as the settings of a service. */
import type { OptionValues } from '../../config/options/options.ts'
import type { MetricsPage } from '../../observe/metrics-page.ts'
import { systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { clusterNameOf, type GapBackupSettings, type ServiceSettings } from '../../service/service-settings.ts'
import type { CommandContext } from '../command.ts'
import { flagArguments, ownProgram } from './calls/own-program.ts'
import { conninfoOf } from './server-of.ts'

type ReceiveOptions = OptionValues<'wal-receive'>

/**
 * The settings of the one service that the command runs.
 * @throws WALRX_USAGE for options that contradict each other, or would have no effect
 */
export function receiveSettings(context: CommandContext<'wal-receive'>, metrics: MetricsPage): ServiceSettings {
  return serviceSettings(context, metrics, gapBackup(context))
}

/**
 * The settings of a service, wherever the options come from.
 * @param takeBackup how a base backup is taken after a gap, where that is wanted
 * @throws as {@link receiveSettings} does
 */
export function serviceSettings(
  context: Pick<CommandContext<'wal-receive'>, 'log' | 'options' | 'settings'>,
  metrics: MetricsPage,
  takeBackup: GapBackupSettings,
): ServiceSettings {
  const { log, options } = context
  checkReceiveOptions(options)
  const { maxSlotLagBytes, slotLagAction, slotName, syncOutageMs, synchronous, tailBytes, tailIntervalMs } = options
  return {
    cluster: clusterNameOf(options),
    storage: options,
    compression: options,
    conninfo: conninfoOf(context),
    allowStandby: options.allowStandby,
    slot: options.slotless ? undefined : { name: slotName, maxLagBytes: maxSlotLagBytes, lagAction: slotLagAction },
    memoryBytes: options.memoryBytes,
    uploadConcurrency: options.uploadConcurrency,
    tailPace: { intervalMs: tailIntervalMs, bytesMax: tailBytes, isSynchronous: synchronous },
    syncOutageMs: syncOutageMs === 0 ? undefined : syncOutageMs,
    endpos: options.endPos,
    drainTimeoutMs: options.drainTimeoutMs,
    gapBackup: options.backupAfterGap ? takeBackup : undefined,
    clock: systemClock,
    random: Math.random,
    log,
    metrics,
  }
}

/**
 * Whether the options of wal-receive fit each other.
 * @throws WALRX_USAGE for some that contradict each other, or would have no effect
 */
export function checkReceiveOptions(options: ReceiveOptions): void {
  refuseSlotless(options)
  refuseIdleSlotOptions(options)
}

/** backup-push by the same program, flags, config file and environment. */
function gapBackup({ settings }: CommandContext<'wal-receive'>): GapBackupSettings {
  const { main, node } = ownProgram()
  return {
    command: [node, main, 'backup-push', ...flagArguments(settings, 'backup-push')],
    environment: settings.environment,
  }
}

/** Without a slot the server may remove WAL for which commits wait: they would wait for ever. */
function refuseSlotless({ slotless, synchronous }: ReceiveOptions): void {
  if (!slotless || !synchronous) return
  throw new WalrxError('WALRX_USAGE', '--synchronous needs a replication slot, and --slotless uses none', {
    hint: 'leave out --synchronous or --slotless',
  })
}

function refuseIdleSlotOptions({ maxSlotLagBytes, slotLagAction, slotless }: ReceiveOptions): void {
  if (slotless && maxSlotLagBytes !== undefined) {
    throw new WalrxError('WALRX_USAGE', '--max-slot-lag is given with --slotless', {
      hint: 'without a slot the server keeps no WAL for walrx: leave out --max-slot-lag or --slotless',
    })
  }
  if (slotLagAction === 'drop' && maxSlotLagBytes === undefined) {
    throw new WalrxError('WALRX_USAGE', '--slot-lag-action=drop is given without --max-slot-lag', {
      hint: 'add --max-slot-lag, the size of the WAL that the slot may keep, for instance --max-slot-lag 20GB',
    })
  }
}
