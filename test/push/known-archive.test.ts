import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { hasCode } from '../../src/primitives/errors.ts'
import { knowledgePath } from '../../src/push/known-archive.ts'
import { makeHistory } from '../harness/made/made-wal.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { pushOnce } from './push-once.ts'
import { nth, ServerFiles } from './server-files.ts'

let files: ServerFiles
let storage: MemoryStorage
beforeEach(async () => {
  files = await ServerFiles.make()
  storage = new MemoryStorage()
})
afterEach(() => files.remove())

const push = (path: string) => pushOnce(storage, path, knowledgePath(files.path('x')))
const ofMarker = () => storage.log.filter((call) => call.includes('system.json'))

test('the marker of the archive is read by the first call, and only looked at by the next ones', async () => {
  await push(files.segment(nth(1)))
  assert.ok(ofMarker().includes('get walrx_005/system.json'), storage.log.join('\n'))
  for (const path of [files.segment(nth(2)), files.put('00000002.history', makeHistory(2)), files.path(nth(1))]) {
    storage.calls.length = 0
    await push(path)
    assert.deepEqual(ofMarker(), ['head walrx_005/system.json'])
  }
})

test('what is known of another cluster does not count for this one', async () => {
  await push(files.segment(nth(1)))
  storage.objects.delete('walrx_005/system.json')
  storage.seed('walrx_005/system.json', '{"SystemIdentifier":1,"WalSegmentSize":1048576}')
  for (const path of [files.segment(nth(2)), files.put('00000002.history', makeHistory(2))]) {
    await assert.rejects(push(path), (error) => hasCode(error, 'WALRX_OTHER_CLUSTER'))
  }
})
