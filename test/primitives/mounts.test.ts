import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseMounts } from '../../src/primitives/mounts.ts'

test('mount points with their escapes, each a byte of a name', () => {
  const text = [
    '22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw',
    '23 22 8:1 /etc/a\\040b /data/two\\040words\\134 rw - ext4 /dev/sda1 rw',
    '24 22 0:5 / /data/\\303\\251é rw - tmpfs tmpfs rw',
    '',
  ].join('\n')
  assert.deepEqual(parseMounts(text), [
    { device: '8:1', root: '/', at: '/' },
    { device: '8:1', root: '/etc/a b', at: '/data/two words\\' },
    { device: '0:5', root: '/', at: '/data/éé' },
  ])
})
