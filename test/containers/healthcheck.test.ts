import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { healthUrl, isReceiving } from '../../docker/healthcheck.ts'
import { repository } from '../lint/source-files.ts'

const program = join(repository, 'docker', 'healthcheck.ts')

/** Exit status of the check as a program. */
async function check(listen: string): Promise<number | null> {
  const child = spawn(process.execPath, [program], { env: { WALRX_STATUS_LISTEN: listen }, stdio: 'inherit' })
  const [status] = (await once(child, 'exit')) as [number | null]
  return status
}

test('a container receives when one of its processes is wal-receive, whatever is before it', (t) => {
  const proc = mkdtempSync(join(tmpdir(), 'walrx-proc-'))
  t.after(() => rmSync(proc, { recursive: true }))
  const run = (pid: string, ...args: string[]) => {
    mkdirSync(join(proc, pid), { recursive: true })
    writeFileSync(join(proc, pid, 'cmdline'), args.map((arg) => `${arg}\0`).join(''))
  }
  mkdirSync(join(proc, 'sys'))
  // A process that has just ended.
  mkdirSync(join(proc, '17'))
  run('1', '/sbin/docker-init', '--', 'walrx', 'backup-push')
  run('7', 'node', '/usr/local/bin/walrx', 'backup-push', '--label=before-wal-receive')
  assert.equal(isReceiving(proc), false)
  run('7', 'node', '/usr/local/bin/walrx', 'wal-receive', '--slotless')
  assert.equal(isReceiving(proc), true)
})

test('the status page is looked for where WALRX_STATUS_LISTEN puts it', () => {
  assert.equal(healthUrl('0.0.0.0:8432'), 'http://0.0.0.0:8432/healthz')
  assert.equal(healthUrl('9000'), 'http://127.0.0.1:9000/healthz')
  assert.equal(healthUrl('[::1]:9000'), 'http://[::1]:9000/healthz')
  assert.equal(healthUrl('OFF'), undefined)
})

describe('the check', () => {
  test('fails beside a receiver without a page or with a page that says no, and passes when it says yes', async (t) => {
    // Any process with this argument is one.
    const receiver = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e6)', 'wal-receive'], { stdio: 'ignore' })
    t.after(() => receiver.kill('SIGKILL'))
    await once(receiver, 'spawn')
    let answer = 200
    const asked: (string | undefined)[] = []
    const server = createServer((request, response) => {
      asked.push(request.url)
      response.writeHead(answer).end()
    })
    await once(server.listen(0, '0.0.0.0'), 'listening')
    const { port } = server.address() as AddressInfo
    assert.equal(await check(`0.0.0.0:${port}`), 0)
    assert.deepEqual(asked, ['/healthz'])
    answer = 503
    assert.equal(await check(String(port)), 1)
    server.close()
    await once(server, 'close')
    assert.equal(await check(`0.0.0.0:${port}`), 1)
    assert.equal(await check('off'), 0)
  })

  const unshare = ['--map-root-user', '--pid', '--fork', '--mount-proc']
  const canUnshare = spawnSync('unshare', [...unshare, 'true']).status === 0
  const skip = canUnshare ? false : 'unshare makes no namespace of processes here'
  test('passes where no receiver runs, although nothing listens', { skip }, () => {
    const { status, stderr } = spawnSync('unshare', [...unshare, process.execPath, program], { encoding: 'utf8' })
    assert.equal(status, 0, stderr)
  })
})
