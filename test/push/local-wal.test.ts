import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, test } from 'node:test'
import { hasCode, type WalrxError } from '../../src/primitives/errors.ts'
import { makeHistory, makeSegment } from '../harness/made/made-wal.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { startWalrx } from '../harness/walrx/walrx-process.ts'
import { pushOnce } from './push-once.ts'
import { nth, ServerFiles } from './server-files.ts'
import { backupHistory } from './wal-label.ts'

let files: ServerFiles
let storage: MemoryStorage
beforeEach(async () => {
  files = await ServerFiles.make()
  storage = new MemoryStorage()
})
afterEach(() => files.remove())

const push = (path: string) => pushOnce(storage, path)
const failure = (path: string) =>
  push(path).then(
    () => assert.fail(`${path} was archived`),
    (error: unknown) => error as WalrxError,
  )

/** What a file that is no regular one may be. */
const others: readonly (readonly [kind: string, make: (path: string) => Promise<unknown> | void])[] = [
  ['a directory', (path) => void mkdirSync(path)],
  ['a FIFO (named pipe)', (path) => void execFileSync('mkfifo', [path])],
  ['a socket', (path) => new Promise<void>((done) => void createServer().unref().listen(path, done))],
  ['a device', (path) => symlinkSync('/dev/zero', path)],
]

describe('what is no regular file', () => {
  for (const [kind, make] of others) {
    test(`is refused: ${kind}, and a link to it`, async () => {
      for (const name of [nth(5), `${nth(5)}.partial`, '00000002.history', `${nth(5)}.00000028.backup`]) {
        rmSync(join(files.dataDir, 'x'), { recursive: true, force: true })
        await make(join(files.dataDir, 'x'))
        symlinkSync(join(files.dataDir, 'x'), files.path(name))
        const error = await failure(files.path(name))
        assert.ok(hasCode(error, 'WALRX_SYSTEM'), String(error))
        assert.equal(error.message, `${files.path(name)} is ${kind}, and has to be a regular file`)
      }
    })
  }

  test('a link to a segment is as good as the segment, and so is pg_wal as a link', async () => {
    writeFileSync(join(files.dataDir, 'elsewhere'), makeSegment(nth(5)))
    symlinkSync('../elsewhere', files.path(nth(5)))
    assert.equal(await push(files.path(nth(5))), 'created')
    renameSync(files.pgWal, join(files.dataDir, 'wal-disk'))
    symlinkSync('wal-disk', files.pgWal)
    assert.equal(await push(files.segment(nth(6))), 'created')
  })

  test('is passed over among the files that wait, and beside the archive’s knowledge and the control file', async () => {
    const archive = join(files.dataDir, 'archive')
    for (const folder of [archive, join(files.pgWal, '.walrx')]) mkdirSync(folder)
    rmSync(join(files.dataDir, 'global', 'pg_control'))
    for (const path of [
      files.path(nth(6)),
      files.path('00000002.history'),
      join(files.pgWal, '.walrx', 'push.json'),
      join(files.dataDir, 'global', 'pg_control'),
    ]) {
      execFileSync('mkfifo', [path])
    }
    for (const name of [nth(6), '00000002.history']) writeFileSync(files.status(name), '')
    files.segment(nth(7))
    await using walrx = startWalrx(['wal-push', files.segment(nth(5)), '--file-prefix', archive], {
      cwd: files.dataDir,
    })
    const { status, stderr } = await walrx.ended
    assert.deepEqual({ status, stderr }, { status: 0, stderr: '' })
    assert.ok(existsSync(join(archive, 'wal_005', `${nth(5)}.zst`)))
  })
})

test('what PostgreSQL cannot have written is refused, with what is lost and the way out', async () => {
  const tiny = makeSegment(nth(0), { pages: 1 }).subarray(0, 8192)
  tiny.writeUInt32LE(8192, 32)
  for (const [name, content, message, hint] of [
    [`${nth(5)}.00000030.backup`, backupHistory(nth(5), '0/500028'), /another offset/, /^no recovery reads/],
    ['00000000.history', makeHistory(2), /no history of timeline 0/, /needs this file/],
    ['00000002.history', makeHistory(3), /timeline 2 as an ancestor of timeline 2/, /needs this file/],
    [`${nth(5)}.partial`, makeSegment(nth(6)), /holds the page at 0\/600000/, /does not need this file/],
    [`${nth(5)}.partial`, makeSegment(nth(5)).subarray(0, 9000), /it has 9000 bytes/, /does not need this file/],
    [`${nth(5)}.partial`, '', /it has 0 bytes/, /does not need this file/],
    [nth(5), makeSegment(nth(5)).subarray(0, -1), /it has 1048575 bytes/, /needs a base backup/],
    [nth(0), tiny, /segments of 8192 bytes, which no server has/, /needs a base backup/],
    [`${'0'.repeat(8)}${nth(5).slice(8)}`, makeSegment(nth(5)), /have no such name/, /needs a base backup/],
  ] as const) {
    const error = await failure(files.put(name, content))
    assert.ok(hasCode(error, 'WALRX_WAL_INVALID'), String(error))
    assert.match(error.message, message)
    assert.match(error.hint ?? '', hint)
    const [, command = ''] = /run: (mv .*)$/.exec(error.hint ?? '') ?? []
    execFileSync('/bin/sh', ['-c', command])
    assert.ok(existsSync(files.status(name, 'done')), command)
    assert.doesNotMatch((await failure(files.path(name))).hint ?? '', /run: mv/, 'nothing waits any more')
  }
  assert.equal(storage.objects.size, 0)
})

test('a segment of another cluster than its server binds no archive', async () => {
  for (const [name, bytes] of [
    [nth(5), makeSegment(nth(5), { systemId: 1n })],
    [`${nth(5)}.partial`, makeSegment(nth(5), { systemId: 1n })],
  ] as const) {
    const error = await failure(files.put(name, bytes))
    assert.ok(hasCode(error, 'WALRX_OTHER_CLUSTER'), String(error))
    assert.match(error.message, / identifier 1, .* 7455523487659893045$/)
  }
  assert.equal(storage.objects.size, 0)
})

describe('a file that is not there', () => {
  const asked = (path: string) => failure(path).then(({ hint, message }) => [message, hint])

  test('is reported with where it was looked for, and why', async () => {
    const [missing] = [files.path(nth(5))]
    assert.deepEqual(await asked(missing), [
      `there is no file ${missing}`,
      'the server has removed it, or it is on another server: ls -l shows what is there',
    ])
    assert.deepEqual(await asked(join('/nowhere/pg_wal', nth(5))), [
      `there is no file /nowhere/pg_wal/${nth(5)}`,
      'correct the path, or mount what is missing',
    ])
    assert.deepEqual(await asked(join('pg_wal', nth(5))), [
      `there is no file pg_wal/${nth(5)} in ${process.cwd()}`,
      'PostgreSQL runs archive_command in its data directory, and %p is a path from there',
    ])
    symlinkSync('/nowhere/x', missing)
    assert.deepEqual(await asked(missing), [
      `${missing} is a symbolic link to /nowhere/x, and there is nothing`,
      'mount what it leads to, or correct the link',
    ])
  })

  test('may be no WAL file at all', async () => {
    for (const name of ['postgresql.conf', `${nth(1)}.zst`, nth(10).toLowerCase(), '0'.repeat(23)]) {
      const error = await failure(files.path(name))
      assert.ok(hasCode(error, 'WALRX_USAGE'), String(error))
      assert.match(error.message, /is not the path of a WAL file/)
    }
  })

  test('but in pg_wal is where %f was written for %p', async () => {
    files.segment(nth(5))
    await using walrx = startWalrx(['wal-push', nth(5), '--file-prefix', files.dataDir], {
      cwd: files.dataDir,
      env: { WALRX_LOG_FORMAT: 'pretty' },
    })
    const { status, stderr } = await walrx.ended
    assert.equal(status, 9)
    assert.match(
      stderr,
      /^walrx: there is no file 0\w+ in \S+\nhint: %f gives the name alone: write archive_command = 'walrx wal-push %p'\n$/,
    )
  })
})
