import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseOpenFiles } from '../../../src/check/machine/machine-facts.ts'
import { machineFindings } from '../../../src/check/machine/machine-findings.ts'
import { complaints } from '../server/made-facts.ts'

const MiB = 1024 ** 2
const facts = { nodeVersion: '24.0.0', openFilesMax: 1024, memoryMaxBytes: undefined, port: { kind: 'free' } } as const
const wish = {
  memoryBytes: undefined,
  segmentSize: 16 * MiB,
  listen: { host: '127.0.0.1', port: 8432 },
  cluster: 'db1',
}

test('a machine without limits raises no complaint', () => {
  assert.deepEqual(complaints(machineFindings(facts, wish)), [])
})

test('the limit of memory is held against the pool, and a smaller pool is advised where one fits', () => {
  const of = (memoryMaxBytes: number, memoryBytes?: number) =>
    machineFindings({ ...facts, memoryMaxBytes }, { ...wish, memoryBytes }).find(({ id }) => id === 'machine.memory')
  assert.equal(of(256 * MiB)?.level, 'ok')
  assert.equal(of(150 * MiB)?.level, 'warning')
  assert.equal(of(150 * MiB)?.steps.at(-1)?.text, '--memory=50MB')
  assert.deepEqual(
    of(110 * MiB)?.steps.map(({ run }) => run),
    ['do'],
  )
  const small = of(1024 * MiB, 16 * MiB)
  assert.equal(small?.level, 'error')
  assert.equal(small?.steps[0]?.text, '--memory=64MB')
})

test('the status page of our own receiver is no complaint, and any other is', () => {
  const level = (port: Parameters<typeof machineFindings>[0]['port']) =>
    complaints(machineFindings({ ...facts, port }, wish))
  assert.deepEqual(level({ kind: 'walrx', clusters: ['db1'] }), [])
  for (const port of [
    { kind: 'walrx', clusters: ['db2'] },
    { kind: 'taken' },
    { kind: 'refused', code: 'EACCES' },
  ] as const) {
    assert.deepEqual(level(port), ['machine.status_port error'])
  }
})

test('few open files are warned of', () => {
  assert.deepEqual(complaints(machineFindings({ ...facts, openFilesMax: 128 }, wish)), ['machine.open_files warning'])
  const limits =
    'Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 4096                 files     \n'
  assert.equal(parseOpenFiles(limits), 1024)
  assert.equal(parseOpenFiles(limits.replace('1024', 'unlimited')), Infinity)
  assert.equal(parseOpenFiles(''), undefined)
})
