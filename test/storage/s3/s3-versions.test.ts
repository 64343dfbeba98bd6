/** Whether a bucket keeps the versions of what is deleted shows in the answers to the deletions. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { startStub } from './stub-store.ts'

const deleted = (marker: string) =>
  `<DeleteResult><Deleted><Key>a</Key></Deleted><Deleted><Key>b</Key>${marker}</Deleted></DeleteResult>`

describe('a bucket', () => {
  test('with versions answers a deletion with a marker, of one object or of many', async () => {
    await using one = await startStub(() => ({ status: 204, headers: { 'x-amz-delete-marker': 'true' } }))
    const storage = one.open()
    assert.equal(storage.keepsVersions, false)
    await storage.delete(['a'])
    assert.equal(storage.keepsVersions, true)
    await using many = await startStub(() => ({ body: deleted('<DeleteMarker>true</DeleteMarker>') }))
    const other = many.open()
    await other.delete(['a', 'b'])
    assert.equal(other.keepsVersions, true)
    await other.delete(['a', 'b'])
    // Once it is known, the answer need not name what went.
    assert.deepEqual(
      many.requests.map(({ body }) => /<Quiet>(\w+)<\/Quiet>/.exec(body.toString())?.[1]),
      ['false', 'true'],
    )
  })

  test('without versions does not', async () => {
    await using stub = await startStub(({ method }) => (method === 'DELETE' ? { status: 204 } : { body: deleted('') }))
    const storage = stub.open()
    await storage.delete(['a', 'b'])
    await storage.delete(['a'])
    assert.equal(storage.keepsVersions, false)
  })
})
