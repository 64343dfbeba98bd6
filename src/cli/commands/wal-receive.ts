/** `walrx wal-receive`: archives the WAL of a running server. */
import { openCodec, openStorage } from '../../config/open-storage.ts'
import type { Logger } from '../../observe/log.ts'
import { createMetrics, type Metrics } from '../../observe/metrics.ts'
import type { PgServer } from '../../postgres/connection.ts'
import { bytesBetween, formatLsn } from '../../postgres/lsn.ts'
import { PgSession } from '../../postgres/pg-session.ts'
import { systemClock } from '../../primitives/clock.ts'
import { packageVersion } from '../../primitives/version.ts'
import { metered, setGauges } from '../../receive/metered.ts'
import { Receiver, type ReceiverSnapshot } from '../../receive/receiver.ts'
import { SlotWatch } from '../../receive/slot-watch.ts'
import { parseListenAddress, type Readiness, StatusServer } from '../../status/server.ts'
import { WalArchive } from '../../walg/wal-archive.ts'
import type { Command } from '../command.ts'
import { serverOf } from '../server-of.ts'

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
        ...(options.slotless ? {} : { watch: watchSlot(options.slotName, server, metrics, log) }),
      })
      const status = listen && (await openStatus(listen, receiver, metrics))
      if (status) log.info('status page', { address: status.url })
      try {
        await receiver.run(signals.drain, signals.now)
      } finally {
        await status?.close()
      }
      return 0
    } finally {
      await storage.close()
    }
  },
}

function watchSlot(slot: string, server: PgServer, metrics: Metrics, log: Logger): SlotWatch {
  return new SlotWatch({
    slot,
    clock: systemClock,
    log,
    open: async (session) => {
      if (!(session instanceof PgSession)) throw new Error('not a session of this server')
      const { sql, reason } = await server.trySql(session)
      if (!sql) return { reason: reason?.message ?? 'unknown' }
      return {
        readSlotHealth: (name) => sql.readSlotHealth(name),
        readSyncState: () => sql.readSyncState(session.backendPid),
        close: () => sql.close(),
      }
    },
    onHealth: ({ restartLsn }) => metrics.slotRestartLsn.set(Number(restartLsn ?? 0n)),
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
