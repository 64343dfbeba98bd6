/** The times of the sentinels of a copy, by which WAL-G and WAL-RUS find LATEST, in a store that stamps whole seconds. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Clock } from '../../src/primitives/clock.ts'
import { sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'
import { copy, delta, full, makeArchive, second } from './made-archive.ts'

test('the newest sentinel has a later time than all others, and only that one waits for it', async () => {
  // Time stands still but while somebody waits.
  let nowMs = Date.parse('2026-03-01T12:00:00Z')
  let waits = 0
  const clock: Clock = {
    now: () => nowMs,
    setTimer(ms, fire) {
      nowMs += ms
      waits++
      setImmediate(fire)
      return { cancel: () => {} }
    },
  }
  const stamps: Clock = { ...clock, now: () => Math.floor(nowMs / 1000) * 1000 }
  const to = new MemoryStorage({ location: 'memory://target', clock: stamps })
  await copy(makeArchive(), to, {}, { clock })
  const times = [full, delta, second].map((name) => to.objects.get(sentinelKey(name))?.lastModifiedMs ?? 0)
  const [first = 0, middle = 0, last = 0] = times
  assert.ok(first <= middle && middle < last, times.join(' '))
  assert.equal(waits, 1)
})
