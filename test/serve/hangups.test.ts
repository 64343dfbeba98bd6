import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { silentLog } from '../../src/observe/log.ts'
import { Hangups } from '../../src/serve/hangups.ts'

test('SIGHUP counts before all is served, and is ignored at the end', () => {
  const source = new EventEmitter()
  const lines: string[] = []
  const log = { ...silentLog, info: (line: string) => void lines.push(line) }
  const hangups = new Hangups((listener) => source.on('SIGHUP', listener), log)
  let count = 0
  source.emit('SIGHUP')
  source.emit('SIGHUP')
  const release = hangups.listen(() => count++)
  assert.equal(count, 1)
  source.emit('SIGHUP')
  assert.equal(count, 2)
  release()
  assert.ok(source.emit('SIGHUP'), 'somebody listens to the end')
  assert.equal(count, 2)
  assert.match(lines.join(), /SIGHUP is ignored/)
})
