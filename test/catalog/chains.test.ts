import assert from 'node:assert/strict'
import { test } from 'node:test'
import { followChain, type LinkedBackup } from '../../src/catalog/chains.ts'

const backups = (...links: readonly (readonly [name: string, parentName?: string])[]) =>
  new Map(links.map(([name, parentName]): [string, LinkedBackup] => [name, { name, parentName, isParentKnown: true }]))

test('a chain leads from the full backup to the delta', () => {
  const all = backups(['a'], ['b', 'a'], ['c', 'b'], ['other', 'a'])
  assert.deepEqual(followChain('c', all), { names: ['a', 'b', 'c'], problem: undefined })
  assert.deepEqual(followChain('other', all), { names: ['a', 'other'], problem: undefined })
  assert.deepEqual(followChain('a', all), { names: ['a'], problem: undefined })
})

test('a chain that leads nowhere says where it ends', () => {
  const parts = backups(['b', 'a'], ['c', 'b'])
  assert.deepEqual(followChain('c', parts), { names: ['b', 'c'], problem: 'a is missing' })
  parts.set('a', { name: 'a', parentName: undefined, isParentKnown: false })
  const unread = { names: ['a', 'b', 'c'], problem: 'the sentinel of a cannot be read' }
  assert.deepEqual(followChain('c', parts), unread)
  const circle = backups(['a', 'c'], ['b', 'a'], ['c', 'b'])
  assert.deepEqual(followChain('c', circle), { names: ['a', 'b', 'c'], problem: 'c builds on itself' })
})
