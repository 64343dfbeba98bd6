/** `walrx wal-receive`: archives the WAL of a running server. */
import { openCodec, openStorage } from '../../config/open-storage.ts'
import { createMetrics, type Metrics } from '../../observe/metrics.ts'
import { bytesBetween, formatLsn } from '../../postgres/lsn.ts'
import { systemClock } from '../../primitives/clock.ts'
import { packageVersion } from '../../primitives/version.ts'
import { metered, setGauges } from '../../service/metered.ts'
import { Receiver, type ReceiverSnapshot } from '../../receive/receiver.ts'
import { parseListenAddress, type Readiness, StatusServer } from '../../status/server.ts'
import type { Storage } from '../../storage/storage.ts'
import { WalArchive } from '../../walg/wal/wal-archive.ts'
import type { OptionValues } from '../../config/options/options.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { TailPace } from '../../receive/tail/tail-pace.ts'
import { GapBackup } from '../../service/gap-backup.ts'
import { refuseIdleSlotOptions, slotCare } from '../../service/slot-care.ts'
import type { Command, CommandContext } from '../command.ts'
import { flagArguments, ownProgram } from '../settings/own-program.ts'
import { everyHostOf, serverOf } from '../settings/server-of.ts'

/** See the file's header. */
export const walReceive: Command<'wal-receive'> = {
  name: 'wal-receive',
  positionals: [],
  examples: [
    {
      call: 'walrx wal-receive --dbname "host=db1 user=walrx" --s3-prefix s3://backups/db1',
      means: 'archive everything that db1 writes',
    },
    {
      call: 'walrx wal-receive --dbname postgresql://walrx@db1,db2/ --file-prefix /srv/archive',
      means: 'from whichever of two hosts is the primary, into a directory',
    },
  ],
  async run(context) {
    const { options, log, signals } = context
    const listen = parseListenAddress(options.statusListen)
    refuseSlotless(options)
    refuseIdleSlotOptions(options)
    const codec = openCodec(options)
    const server = serverOf(context, options.allowStandby)
    const storage = await openStorage(options)
    try {
      const traits = await storage.probe({ signal: signals.drain })
      if (!traits.conditionalPut) {
        log.warn('the store has no conditional put: names are looked up before they are written', {
          location: storage.location,
        })
      }
      const metrics = createMetrics(packageVersion())
      const backup = gapBackup(context, storage, metrics)
      // One that an earlier receiver had not come to.
      void backup?.look()
      const receiver = new Receiver({
        server,
        archive: new WalArchive(storage, codec),
        clock: systemClock,
        random: Math.random,
        log,
        meter: metered(metrics),
        slot: options.slotless ? undefined : options.slotName,
        allowStandby: options.allowStandby,
        memoryBytes: options.memoryBytes,
        uploadConcurrency: options.uploadConcurrency,
        endpos: options.endPos,
        drainTimeoutMs: options.drainTimeoutMs,
        tailPace: tailPace(options),
        syncOutageMs: options.syncOutageMs === 0 ? undefined : options.syncOutageMs,
        onGap: () => void backup?.look(),
        everyHost: everyHostOf(context),
        ...slotCare(options, server, metrics, log),
      })
      const status = listen && (await openStatus(listen, receiver, metrics))
      if (status) log.info('status page', { address: status.url })
      try {
        await receiver.run(signals.drain, signals.now)
      } finally {
        await backup?.close()
        await status?.close()
      }
      return 0
    } finally {
      await storage.close()
    }
  },
}

function tailPace(options: OptionValues<'wal-receive'>): TailPace {
  return { intervalMs: options.tailIntervalMs, bytesMax: options.tailBytes, isSynchronous: options.synchronous }
}

/** Commits that wait for WAL which the server need not keep would wait for ever after the first broken connection. */
function refuseSlotless({ slotless, synchronous }: OptionValues<'wal-receive'>): void {
  if (!slotless || !synchronous) return
  throw new WalrxError('WALRX_USAGE', '--synchronous needs a replication slot, --slotless uses none', {
    hint: 'leave one of the two out',
  })
}

/** Undefined where none is asked for. */
function gapBackup(
  { options, settings, log, signals }: CommandContext<'wal-receive'>,
  storage: Storage,
  metrics: Metrics,
): GapBackup | undefined {
  if (!options.backupAfterGap) return undefined
  const { main, node } = ownProgram()
  return new GapBackup({
    storage,
    command: [node, main, 'backup-push', ...flagArguments(settings, 'backup-push')],
    environment: settings.environment,
    clock: systemClock,
    random: Math.random,
    log,
    onEnd: (outcome) => metrics.gapBackups.inc({ outcome }),
    signal: signals.drain,
  })
}

function openStatus(
  listen: { readonly host: string; readonly port: number },
  receiver: Receiver,
  metrics: Metrics,
): Promise<StatusServer> {
  return StatusServer.open({
    ...listen,
    readiness: () => readiness(receiver.snapshot()),
    metrics: async () => {
      setGauges(metrics, receiver.snapshot())
      return { contentType: metrics.registry.contentType, text: await metrics.registry.metrics() }
    },
  })
}

/** Ready means: WAL is streaming and a buffer is free for more of it. */
function readiness(snapshot: ReceiverSnapshot): Readiness {
  const { receivedLsn, durableLsn, serverEnd } = snapshot
  const details = {
    ...snapshot,
    receivedLsn: formatLsn(receivedLsn),
    durableLsn: formatLsn(durableLsn),
    serverEnd: formatLsn(serverEnd),
    lagBytes: Math.max(0, bytesBetween(durableLsn, serverEnd)),
  }
  if (snapshot.state !== 'streaming') {
    return { ready: false, reason: snapshot.lastError ?? `the receiver is ${snapshot.state}`, details }
  }
  if (snapshot.poolFree === 0)
    return { ready: false, reason: 'no buffer is free: the storage is too slow or out', details }
  return { ready: true, details }
}
