import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { WalrxError } from '../../src/primitives/errors.ts'
import { lockState } from '../../src/serve/state-lock.ts'

const folder = mkdtempSync(join(tmpdir(), 'walrx-state-'))
after(() => rmSync(folder, { recursive: true }))

async function refusal(directory: string): Promise<WalrxError> {
  const error = await lockState(directory).then(
    () => assert.fail('locked'),
    (reason: unknown) => reason,
  )
  assert.ok(error instanceof WalrxError && error.code === 'WALRX_USAGE', String(error))
  return error
}

test('a state directory has one user, and a path that a socket can have', async () => {
  const directory = join(folder, 'state')
  const unlock = await lockState(directory)
  assert.match((await refusal(directory)).hint ?? '', /one walrx serve uses a state directory at a time/)
  await unlock()
  await (
    await lockState(directory)
  )()
  const { hint, message } = await refusal(join(folder, 'x'.repeat(120)))
  assert.match(message, /at most 10\d are possible/)
  assert.equal(hint, 'name a directory with a shorter path by state:')
})
