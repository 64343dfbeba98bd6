/**
 * A process that stores a recorded incremental backup, and prints the cost:
 *
 *     node bench/delta-replay.ts '{"recording":{…},"way":"converted",…}'
 *
 * `converted`: stored as `backup-push` does, with a checksum of each increment to compare with the manifest. `raw`:
 * stored like a full backup, with the server's increments as ordinary files, in the same parts by the same codec.
 * `summed`: stored raw, with a checksum over its bytes. The difference between converted and summed is the cost of the
 * conversion.
 */
import { mkdirSync } from 'node:fs'
import { crc32c } from '@node-rs/crc32'
import { BackupReceiver } from '../src/backup/parts/backup-receiver.ts'
import { openWriteCodec } from '../src/compression/codecs.ts'
import { silentLog } from '../src/observe/log.ts'
import type { BaseBackupSink } from '../src/postgres/backup/base-backup-sink.ts'
import { parseLsn, type Timeline } from '../src/postgres/lsn.ts'
import { FileStorage } from '../src/storage/file/file-storage.ts'
import { archiveFolders } from '../src/walg/names.ts'
import { type Recording, replay } from '../test/e2e/backup/recorded-server.ts'
import type { CodecName } from './contenders.ts'

/** How a recorded backup is stored: see the file's header. */
export type ReplayWay = 'raw' | 'summed' | 'converted'

/** What is to be stored, and how. */
export interface ReplayTask {
  readonly recording: Recording
  readonly way: ReplayWay
  /** Where the backup starts that this one builds on, `X/X`. */
  readonly parentLsn: string
  readonly timeline: Timeline
  readonly codec: CodecName
  /** An archive of its own. */
  readonly directory: string
}

/** What came of it. */
export interface ReplayResult {
  readonly seconds: number
  /** User and system, of all threads, without the start of the process. */
  readonly cpuSeconds: number
  readonly rssBytes: number
  readonly storedBytes: number
  readonly tarBytes: number
}

async function store(task: ReplayTask): Promise<ReplayResult> {
  const { codec, directory, parentLsn, recording, timeline, way } = task
  mkdirSync(directory, { recursive: true })
  const parent = { prefix: '/', has: () => true, startLsn: parseLsn(parentLsn), timeline } as const
  const began = performance.now()
  const before = process.cpuUsage()
  let receiver: BackupReceiver | undefined
  await replay(recording, (tablespaces) => {
    receiver = new BackupReceiver({
      storage: new FileStorage({ folders: archiveFolders, root: directory }),
      codec: openWriteCodec(codec),
      folder: 'backup/',
      partBytesMax: 1024 ** 3,
      hasManifest: true,
      tablespaces,
      parent: way === 'converted' ? parent : undefined,
      log: silentLog,
      signal: new AbortController().signal,
      onProgress: () => {},
    })
    return way === 'summed' ? summed(receiver) : receiver
  })
  if (!receiver) throw new Error('the recording has no backup')
  const { storedBytes, tarBytes } = await receiver.finish()
  const { system, user } = process.cpuUsage(before)
  return {
    seconds: (performance.now() - began) / 1000,
    cpuSeconds: (system + user) / 1e6,
    rssBytes: process.resourceUsage().maxRSS * 1024,
    storedBytes,
    tarBytes,
  }
}

/** The sink, each byte of its archives summed up on the way. */
function summed(sink: BackupReceiver): BaseBackupSink {
  let sum = 0
  return {
    onArchive: (tablespace) => sink.onArchive(tablespace),
    onData: (bytes) => {
      sum = crc32c(bytes, sum)
      return sink.onData(bytes)
    },
    onManifest: () => sink.onManifest(),
    onManifestData: (bytes) => sink.onManifestData(bytes),
    onNotice: (notice) => sink.onNotice(notice),
  }
}

process.stdout.write(JSON.stringify(await store(JSON.parse(process.argv[2] ?? '') as ReplayTask)))
