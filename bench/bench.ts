/**
 * `npm run bench -- receive|recover|backup|restore|encryption|delta|rpo|scale [options]`: compares walrx with its peers, in one run, on
 * this machine. Results go to `bench/results`.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { CodecName } from './contenders.ts'
import { checkout, WorkDirectory } from './work-directory.ts'

const usage = `npm run bench -- receive [options]   catch up with gigabytes of WAL, compared with each peer
npm run bench -- recover [options]   recover a server from an archive, compared with each peer
npm run bench -- backup [options]    back a server up, compared with each peer
npm run bench -- restore [options]   restore backups, compared with each peer
npm run bench -- encryption [options]  receive, backup and restore with --encrypted, zstd and none, in ten minutes
npm run bench -- delta [options]     full backups and deltas, and the cost of converting increments to WAL-G's format
npm run bench -- rpo [options]       commit with walrx as the synchronous standby, compared with pg_receivewal and none
npm run bench -- scale [options]     ask an archive of a million segments what it holds, compared with each peer

Options of receive:
  --gb GB               WAL to receive, in 10^9 bytes (default 4.1)
  --rounds N            rounds (default 3)
  --codec NAME          zstd, lz4, brotli or none; may be repeated (default zstd)
  --storage file|s3     where to (default file); s3 takes WALG_S3_PREFIX and AWS_* from the environment
  --paced-segments N    segments to time from flush to archive under a limited load; 0 for none (default 40)
  --memory-sweep        measure walrx alone, with --memory from 32MB to 256MB
  --encrypted           with a key of libsodium, beside walrx without one

Options of recover:
  --segments N          segments to replay (default 90)
  --rounds N            rounds (default 2)
  --gb GB               the prepared server to take them from (default 4.1)

Options of backup and restore:
  --scale N             of pgbench's tables, 15 MB each (default 150)
  --rounds N            rounds (default 3)
  --codec NAME, --storage file|s3, --encrypted   as for receive

Options of delta, into a directory:
  --scale N, --rounds N, --codec NAME   as for backup

Options of rpo, which takes WALG_S3_PREFIX and AWS_* from the environment, else starts an s3rver:
  --clients N           pgbench clients; may be repeated (default 1, 32 and 200)
  --store-latency MS    added latency of the store; may be repeated (default 0, 5, 30 and 100)
  --seconds N           for each cell of the table (default 8)
  --quick               32 clients, 0 and 30 ms, 3 seconds, unless other options set them

Options of scale:
  --segments N          segments of the archive (default 1000000)
  --backups N           backups of the archive (default 10000)
  --list-latency MS     time that the bucket takes for each LIST (default 20)
  --ask-limit SECONDS   a tool that takes longer is stopped (default 600)
  --rounds N            rounds (default 1)
  --storage file|s3     a directory, or a bucket that the bench makes (default s3)

Options of all:
  --work DIR            where the prepared server is kept (default bench/.work)
  --results DIR         where results are written (default bench/results)

Peers are measured where the environment names their binaries: PG_RECEIVEWAL, PG_BASEBACKUP, WALG_BIN,
WALRUS_BIN. pgbench is taken from the directory PG_BIN, or from PATH.
`

const memorySizes = ['32MB', '48MB', '64MB', '128MB', '256MB']

const codecNames: readonly string[] = ['zstd', 'lz4', 'brotli', 'none'] satisfies CodecName[]

/** An error in the command line. */
class UsageError extends Error {}

function parse(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        gb: { type: 'string' },
        rounds: { type: 'string' },
        segments: { type: 'string' },
        backups: { type: 'string', default: '10000' },
        'list-latency': { type: 'string', default: '20' },
        'ask-limit': { type: 'string', default: '600' },
        scale: { type: 'string' },
        codec: { type: 'string', multiple: true },
        storage: { type: 'string' },
        'paced-segments': { type: 'string' },
        'memory-sweep': { type: 'boolean', default: false },
        encrypted: { type: 'boolean', default: false },
        clients: { type: 'string', multiple: true },
        'store-latency': { type: 'string', multiple: true },
        seconds: { type: 'string' },
        quick: { type: 'boolean', default: false },
        work: { type: 'string' },
        results: { type: 'string', default: join(checkout, 'bench/results') },
        help: { type: 'boolean', short: 'h', default: false },
      },
    })
  } catch (error) {
    throw new UsageError((error as Error).message)
  }
}

function positive(text: string, name: string, min = 0): number {
  const value = Number(text)
  if (!(value > min || (min < 0 && value === 0))) throw new UsageError(`--${name} ${text} is not a number above ${min}`)
  return value
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args)
  if (values.help) {
    say(usage)
    return 0
  }
  const [command] = positionals
  const work = new WorkDirectory(values.work)
  const isEncryption = command === 'encryption'
  const gigabytes = positive(values.gb ?? (isEncryption ? '1.7' : '4.1'), 'gb')
  const scale = positive(values.scale ?? (isEncryption ? '100' : '150'), 'scale')
  const common = { work, resultsDirectory: values.results, gigabytes, say }
  const codecTexts = values.codec ?? (isEncryption ? ['zstd', 'none'] : ['zstd'])
  for (const codec of codecTexts) {
    if (!codecNames.includes(codec)) throw new UsageError(`--codec ${codec} is not one of ${codecNames.join(', ')}`)
  }
  const storage = values.storage ?? (command === 'scale' ? 's3' : 'file')
  if (storage !== 'file' && storage !== 's3') throw new UsageError('--storage is file or s3')
  const codecs = codecTexts as CodecName[]
  const { encrypted } = values
  if (command === 'receive') {
    const { benchReceive } = await import('./receive.ts')
    const sweep = values['memory-sweep']
    await benchReceive({
      ...common,
      rounds: positive(values.rounds ?? '3', 'rounds'),
      codecs,
      storage,
      encrypted,
      pacedSegments: positive(values['paced-segments'] ?? (sweep ? '0' : '40'), 'paced-segments', -1),
      memorySweep: sweep ? memorySizes : undefined,
    })
    return 0
  }
  if (command === 'recover') {
    const { benchRecover } = await import('./recover.ts')
    await benchRecover({
      ...common,
      rounds: positive(values.rounds ?? '2', 'rounds'),
      segments: positive(values.segments ?? '90', 'segments', 1),
    })
    return 0
  }
  if (command === 'backup' || command === 'restore') {
    const { benchBackup, benchRestore } = await import('./backup.ts')
    const bench = command === 'backup' ? benchBackup : benchRestore
    await bench({ ...common, scale, rounds: positive(values.rounds ?? '3', 'rounds'), codecs, storage, encrypted })
    return 0
  }
  if (isEncryption) {
    const { benchReceive } = await import('./receive.ts')
    const { benchBackup, benchRestore } = await import('./backup.ts')
    const rounds = positive(values.rounds ?? '3', 'rounds')
    const encryption = { ...common, codecs, encrypted: true, rounds, scale }
    await benchReceive({ ...encryption, storage, pacedSegments: 0, memorySweep: undefined })
    await benchBackup({ ...encryption, storage })
    await benchRestore({ ...encryption, storage })
    return 0
  }
  if (command === 'delta') {
    const { benchDelta } = await import('./delta.ts')
    await benchDelta({ ...common, scale, rounds: positive(values.rounds ?? '3', 'rounds'), codecs })
    return 0
  }
  if (command === 'rpo') {
    const { benchRpo } = await import('./rpo.ts')
    const { clients, quick, seconds, 'store-latency': latencies } = values
    await benchRpo({
      ...common,
      clients: (clients ?? (quick ? ['32'] : ['1', '32', '200'])).map((text) => positive(text, 'clients')),
      latenciesMs: (latencies ?? (quick ? ['0', '30'] : ['0', '5', '30', '100'])).map((text) =>
        positive(text, 'store-latency', -1),
      ),
      seconds: positive(seconds ?? (quick ? '3' : '8'), 'seconds'),
    })
    return 0
  }
  if (command === 'scale') {
    const { benchScale } = await import('./scale.ts')
    await benchScale({
      ...common,
      storage,
      segments: positive(values.segments ?? '1000000', 'segments'),
      backups: positive(values.backups, 'backups'),
      listMs: positive(values['list-latency'], 'list-latency', -1),
      askedMaxMs: positive(values['ask-limit'], 'ask-limit') * 1000,
      rounds: positive(values.rounds ?? '1', 'rounds'),
    })
    return 0
  }
  throw new UsageError(
    command === undefined
      ? 'receive, recover, backup, restore, encryption, delta, rpo or scale?'
      : `there is no bench ${command}`,
  )
}

// Disposal stops the servers; an interrupted bench must not leave them running.
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    process.stderr.write(`${signal}: stopping\n`)
    void stopServers().then(() => process.exit(1))
  })
}

async function stopServers(): Promise<void> {
  const { descendants } = await import('../test/harness/walrx/processes.ts')
  for (const pid of await descendants(process.pid)) {
    try {
      // SIGQUIT ends a postmaster with all of its children at once, and anything else as well.
      process.kill(pid, 'SIGQUIT')
    } catch {
      continue
    }
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  const isUsage = error instanceof UsageError
  process.stderr.write(isUsage ? `${error.message}\n\n${usage}` : `${(error as Error).stack}\n`)
  process.exitCode = isUsage ? 2 : 1
}
