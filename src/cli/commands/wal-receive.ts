/** `walrx wal-receive`: archives the WAL of a running server. */
import { MetricsPage } from '../../observe/metrics-page.ts'
import { packageVersion } from '../../primitives/version.ts'
import { ArchiveService } from '../../service/archive-service.ts'
import { openStatusPage } from '../../service/status-page.ts'
import { parseListenAddress } from '../../status/server.ts'
import type { Command } from '../command.ts'
import { receiveSettings } from '../settings/receive-settings.ts'

/** See the file's header. */
export const walReceive: Command<'wal-receive'> = {
  name: 'wal-receive',
  positionals: [],
  examples: [
    {
      call: 'walrx wal-receive --dbname "host=db1 user=walrx" --s3-prefix s3://backups/db1',
      means: 'archive all WAL of db1',
    },
    {
      call: 'walrx wal-receive --dbname postgresql://walrx@db1,db2/ --file-prefix /srv/archive',
      means: 'from the primary of two hosts, into a directory',
    },
    {
      call: 'PGSERVICE=db1 walrx wal-receive --config /etc/walg.yaml',
      means: 'the server of a connection service, with the settings of a file',
    },
  ],
  async run(context) {
    const { log, options, signals } = context
    const listen = parseListenAddress(options.statusListen)
    const metrics = new MetricsPage(packageVersion())
    const settings = receiveSettings(context, metrics)
    const service = await ArchiveService.open(settings, { signal: signals.drain })
    try {
      const status = listen && (await openStatusPage(listen, [service], metrics))
      if (status) log.info('the status page is open', { address: status.url })
      try {
        await service.run(signals.drain, signals.now)
      } finally {
        await status?.close()
      }
      return 0
    } finally {
      await service.close()
    }
  },
}
