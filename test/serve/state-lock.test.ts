import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { lockState } from '../../src/serve/state-lock.ts'

const parent = mkdtempSync(join(tmpdir(), 'walrx-lock-'))
after(() => rmSync(parent, { recursive: true }))

/** What a walrx leaves that was killed. */
function leaveSocket(directory: string): void {
  const name = join(directory, 'serve-0123456789abcdef.sock')
  const script = `
    const fs = require('fs')
    fs.mkdirSync(${JSON.stringify(directory)}, { recursive: true })
    require('net').createServer().listen(${JSON.stringify(name)}, () => process.kill(process.pid, 'SIGKILL'))`
  spawnSync(process.execPath, ['-e', script])
  assert.deepEqual(readdirSync(directory), ['serve-0123456789abcdef.sock'])
}

test('of several that start at once over what a killed one has left, never two have the directory', async () => {
  for (const count of [2, 3, 8]) {
    const directory = join(parent, `at-once-${count}`)
    leaveSocket(directory)
    const taken = await Promise.allSettled(Array.from({ length: count }, () => lockState(directory)))
    const locks = taken.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    assert.ok(locks.length <= 1, `${locks.length} of ${count} have it`)
    for (const each of taken)
      if (each.status === 'rejected') assert.match(String(each.reason), /cannot be used: another walrx serve listens/)
    for (const unlock of locks) await unlock()
    assert.deepEqual(readdirSync(directory), [])
    await (
      await lockState(directory)
    )()
  }
})

test('one that has the directory keeps it', async () => {
  const directory = join(parent, 'kept')
  leaveSocket(directory)
  const unlock = await lockState(directory)
  await assert.rejects(lockState(directory), { code: 'WALRX_USAGE' })
  assert.equal(readdirSync(directory).length, 1)
  await unlock()
})

test('a path that is too long for a socket is refused', async () => {
  const directory = join(parent, 'x'.repeat(90))
  await assert.rejects(lockState(directory), {
    code: 'WALRX_USAGE',
    message: /at most 10\d are possible/,
    hint: 'name a directory with a shorter path by state:',
  })
})
