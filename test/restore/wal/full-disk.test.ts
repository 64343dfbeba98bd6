/** pg_wal on a file system that is full, or nearly so. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, readFile, rm, statfs, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, afterEach, before, beforeEach, describe, test } from 'node:test'
import { silentLog } from '../../../src/observe/log.ts'
import { segmentName } from '../../../src/postgres/wal/wal-file.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'
import { fetchWalFile } from '../../../src/restore/wal/wal-fetch.ts'
import { madeSegmentSize, makeSegment } from '../../harness/made/made-wal.ts'
import { startFakeStartup } from '../../harness/postgres/fake-startup.ts'
import { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { FastClock } from '../../harness/time/fast-clock.ts'
import { until } from '../../harness/time/until.ts'
import { runWalrx, startWalrx } from '../../harness/walrx/walrx-process.ts'

const nameOf = (number: number) => segmentName(1, BigInt(number), madeSegmentSize)
const name = nameOf(5)

describe('a full file system', () => {
  let directory: string
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'walrx-full-'))
  })
  afterEach(() => rm(directory, { recursive: true }))

  for (const code of ['ENOSPC', 'EDQUOT']) {
    /** Refuses every body for so long. */
    const fetch = async (fullForMs: number, isStandby = false) => {
      const storage = new MemoryStorage()
      storage.seed(`wal_005/${name}`, makeSegment(name))
      const clock = new FastClock(200)
      const startMs = clock.now()
      storage.body = async function* (_key, chunks) {
        for await (const chunk of chunks) {
          if (clock.now() - startMs < fullForMs) {
            const cause = Object.assign(new Error('x'), { code })
            throw new WalrxError('WALRX_DESTINATION', `cannot write it: ${code}`, { cause })
          }
          yield chunk
        }
      }
      const warnings: unknown[] = []
      const result = await fetchWalFile({
        storage,
        name,
        dest: join(directory, 'RECOVERYXLOG'),
        extension: '',
        retryTimeoutMs: 60_000,
        isStandby,
        dataDir: directory,
        signal: new AbortController().signal,
        log: { ...silentLog, warn: (_message, fields) => void warnings.push(fields?.['error']) },
        clock,
      }).catch((error: unknown) => error as WalrxError)
      return { result, ms: clock.now() - startMs, warnings }
    }

    test(`(${code}) is waited out, with a line now and then`, async () => {
      const { result, warnings } = await fetch(200_000)
      assert.equal(result, 'delivered')
      assert.ok(warnings.length >= 3 && warnings.length <= 8, `${warnings.length}`)
    })

    test(`(${code}) is waited for five times the retry timeout, and then an error with a remedy`, async () => {
      const { ms, result } = await fetch(1_000_000)
      assert.ok(result instanceof WalrxError)
      assert.match(result.message, new RegExp(`${code} \\(tried`))
      assert.match(result.hint ?? '', /free space on the file system/)
      assert.ok(ms > 280_000 && ms <= 320_000, `${ms}`)
    })

    test(`(${code}) is reported to a standby soon, which asks again`, async () => {
      const { ms, result } = await fetch(1_000_000, true)
      assert.ok(result instanceof WalrxError)
      assert.ok(ms <= 10_000, `${ms}`)
    })
  }
})

describe('a small file system under pg_wal', () => {
  let root: string
  let dataDir: string
  let pgWal: string
  let archive: string
  let whyNot: string | undefined
  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'walrx-small-'))
    dataDir = join(root, 'data')
    pgWal = join(dataDir, 'pg_wal')
    archive = join(root, 'archive')
    await mkdir(join(archive, 'wal_005'), { recursive: true })
    await mkdir(pgWal, { recursive: true })
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', pgWal], { stdio: 'pipe' })
    } catch (error) {
      whyNot = `no file system can be mounted here (only root may): ${(error as Error).message.trim()}`
    }
    for (let number = 1; number <= 9; number++) {
      await writeFile(join(archive, 'wal_005', nameOf(number)), makeSegment(nameOf(number)))
    }
  })
  after(async () => {
    if (whyNot === undefined) execFileSync('umount', ['--lazy', pgWal])
    await rm(root, { recursive: true })
  })

  const call = (...flags: string[]) => ['wal-fetch', ...flags, nameOf(1), 'pg_wal/RECOVERYXLOG']
  const settings = () => ({
    cwd: dataDir,
    env: { HOME: root, WALG_FILE_PREFIX: archive, WALG_COMPRESSION_METHOD: 'none', WALRX_LOG_FORMAT: 'json' },
  })
  const fill = () => writeFile(join(pgWal, 'filler'), Buffer.alloc(7.5 * madeSegmentSize))

  test('that is full: wal-fetch waits until there is space', async (t) => {
    if (whyNot !== undefined) return t.skip(whyNot)
    await fill()
    await using walrx = startWalrx(call(), settings())
    await until('the wait', () => walrx.stderr.includes('ENOSPC'))
    await unlink(join(pgWal, 'filler'))
    assert.equal((await walrx.ended).status, 0)
    assert.deepEqual(await readFile(join(pgWal, 'RECOVERYXLOG')), makeSegment(nameOf(1)))
    await unlink(join(pgWal, 'RECOVERYXLOG'))
  })

  test('that stays full: the status stops the server, it does not promote', async (t) => {
    if (whyNot !== undefined) return t.skip(whyNot)
    await fill()
    const { status, stderr } = await runWalrx(call('--fetch-retry-timeout=100ms'), settings())
    assert.equal(status, 126)
    assert.match(stderr, /ENOSPC.*max_wal_size/s)
    await unlink(join(pgWal, 'filler'))
    assert.deepEqual(await readdir(pgWal), [])
  })

  test('is shared with the prefetcher, which says at the start that it keeps fewer segments', async (t) => {
    if (whyNot !== undefined) return t.skip(whyNot)
    await using startup = await startFakeStartup(dataDir)
    const { status, stderr } = await runWalrx(call('--recovery-pid', String(startup.pid)), settings())
    assert.equal(status, 0, stderr)
    assert.match(stderr, /little space is free on the file system of pg_wal/)
    const folder = join(pgWal, '.walrx', String(startup.pid))
    const ready = async () => (await readdir(folder)).filter((file) => file.startsWith('0000')).length
    await until('three segments', async () => (await ready()) === 3)
    const { bavail, bsize } = await statfs(pgWal)
    assert.ok(bavail * bsize >= 3 * madeSegmentSize, `${bavail * bsize} bytes are free`)
    // The server keeps what it has replayed until its next restartpoint.
    await writeFile(join(pgWal, 'filler'), Buffer.alloc(3 * madeSegmentSize))
    await until('the space of two', async () => (await ready()) === 1)
    await startup.end()
    await until('its end', async () => !(await readdir(pgWal)).includes('.walrx'))
  })
})
