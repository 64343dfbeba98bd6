import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { startWalrx } from '../harness/walrx/walrx-process.ts'
import { nth, ServerFiles } from './server-files.ts'

let files: ServerFiles
let mute: Server
before(async () => {
  files = await ServerFiles.make()
  files.segment(nth(5))
  // It takes connections, and never answers.
  mute = createServer()
  mute.listen(0, '127.0.0.1')
  await once(mute, 'listening')
})
after(() => {
  mute.close()
  files.remove()
})

const store = () => ({
  WALG_S3_PREFIX: 's3://bucket/x',
  AWS_ENDPOINT: `http://127.0.0.1:${(mute.address() as AddressInfo).port}`,
  AWS_REGION: 'us-east-1',
  AWS_ACCESS_KEY_ID: 'a',
  AWS_SECRET_ACCESS_KEY: 'b',
})

/** A module for Node's --import: a thread of the process waits for ever, as for a file system that does not answer. */
function hungThread(): string {
  const fifo = join(files.dataDir, 'fifo')
  execFileSync('mkfifo', [fifo])
  const path = join(files.dataDir, 'hang.mjs')
  writeFileSync(path, `import { open } from 'node:fs'\nopen(${JSON.stringify(fifo)}, () => {})\n`)
  return path
}

describe('SIGTERM ends wal-push with the status that PostgreSQL takes for "try again"', () => {
  async function stopAtConnection(env: Readonly<Record<string, string>>) {
    const connected = once(mute, 'connection')
    await using walrx = startWalrx(['wal-push', `pg_wal/${nth(5)}`], {
      cwd: files.dataDir,
      env: { ...store(), ...env },
    })
    await Promise.race([connected, walrx.ended.then(({ stderr }) => assert.fail(`it has ended: ${stderr}`))])
    return await walrx.stop('SIGTERM')
  }

  test('while a store does not answer', async () => {
    const { status, stderr } = await stopAtConnection({})
    assert.deepEqual({ status, stderr }, { status: 75, stderr: '' })
  })

  test('while a thread waits in a system call', async () => {
    const { status } = await stopAtConnection({ NODE_OPTIONS: `--import=${hungThread()}` })
    assert.equal(status, 75)
  })

  test('before it has read its settings', async () => {
    const config = join(files.dataDir, 'settings.json')
    execFileSync('mkfifo', [config])
    const started = join(files.dataDir, 'started.mjs')
    // The config file is asked for when everything that it takes is loaded.
    writeFileSync(
      started,
      `import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
const { readFile } = fs
fs.readFile = (...args) => { if (args[0] === ${JSON.stringify(config)}) console.error('reads'); return readFile(...args) }
syncBuiltinESMExports()\n`,
    )
    await using walrx = startWalrx(['wal-push', `pg_wal/${nth(5)}`, '--config', config], {
      cwd: files.dataDir,
      env: { NODE_OPTIONS: `--import=${started}` },
    })
    const reads = Promise.withResolvers<void>()
    walrx.child.stderr?.on('data', (piece: Buffer) => String(piece).includes('reads') && reads.resolve())
    await Promise.race([reads.promise, walrx.ended])
    assert.equal((await walrx.stop('SIGTERM')).status, 75)
  })
})

test('a FIFO in the place of an object is refused, and not waited for', async () => {
  const archive = join(files.dataDir, 'archive')
  for (const folder of ['wal_005', 'walrx_005']) mkdirSync(join(archive, folder), { recursive: true })
  for (const key of [`wal_005/${nth(5)}.zst`, 'walrx_005/system.json']) execFileSync('mkfifo', [join(archive, key)])
  await using walrx = startWalrx(['wal-push', files.path(nth(5)), '--file-prefix', archive])
  const { status, stderr } = await walrx.ended
  assert.equal(status, 4)
  assert.match(stderr, /archive\/w\S+ is not a file/)
})
