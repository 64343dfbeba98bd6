/**
 * A process that stores a recorded incremental backup, and says what that cost:
 *
 *     node bench/delta-replay.ts '{"recording":{…},"convert":true,…}'
 *
 * Converted it becomes what `backup-push` makes of it; raw it is stored as if it were a full one: the server's increments
 * are files like others then, in the same parts by the same codec.
 */
import { mkdirSync } from 'node:fs'
import { BackupReceiver } from '../src/backup/backup-receiver.ts'
import { openWriteCodec } from '../src/compression/codecs.ts'
import { silentLog } from '../src/observe/log.ts'
import { parseLsn, type Timeline } from '../src/postgres/lsn.ts'
import { FileStorage } from '../src/storage/file.ts'
import { type Recording, replay } from '../test/e2e/recorded-server.ts'
import type { CodecName } from './contenders.ts'

/** What is to be stored, and how. */
export interface ReplayTask {
  readonly recording: Recording
  readonly convert: boolean
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
  const { codec, convert, directory, parentLsn, recording, timeline } = task
  mkdirSync(directory, { recursive: true })
  const parent = { prefix: '/', has: () => true, startLsn: parseLsn(parentLsn), timeline } as const
  const began = performance.now()
  const before = process.cpuUsage()
  let receiver: BackupReceiver | undefined
  await replay(
    recording,
    (tablespaces) =>
      (receiver = new BackupReceiver({
        storage: new FileStorage({ root: directory }),
        codec: openWriteCodec(codec),
        folder: 'backup/',
        partBytesMax: 1024 ** 3,
        hasManifest: true,
        tablespaces,
        parent: convert ? parent : undefined,
        log: silentLog,
        signal: new AbortController().signal,
        onProgress: () => {},
      })),
  )
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

process.stdout.write(JSON.stringify(await store(JSON.parse(process.argv[2] ?? '') as ReplayTask)))
