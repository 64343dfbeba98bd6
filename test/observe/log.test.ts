import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { describe, test } from 'node:test'
import { createLog, type LogOptions, silentLog } from '../../src/observe/log.ts'
import { WalrxError } from '../../src/primitives/errors.ts'

/** A log that keeps its lines. */
function recorder(options: Partial<LogOptions> = {}) {
  const lines: string[] = []
  const log = createLog({ level: 'info', format: () => 'json', ...options, write: (line) => lines.push(line) })
  const last = () => JSON.parse(lines.at(-1) ?? '{}') as Record<string, unknown>
  return { log, lines, last }
}

describe('a log of JSON lines', () => {
  test('has level and time by name, the message and its facts', () => {
    const { log, last, lines } = recorder()
    log.info('segment uploaded', { segment: '000000010000000000000001', bytes: 12 })
    const { level, msg, time, segment, bytes } = last()
    assert.deepEqual(
      { level, msg, segment, bytes },
      { level: 'info', msg: 'segment uploaded', segment: '000000010000000000000001', bytes: 12 },
    )
    assert.match(String(time), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
    assert.ok(lines[0]?.endsWith('}\n'))
  })

  test('writes positions as X/X and other big numbers in full', () => {
    const { log, last } = recorder()
    log.info('at', { startLsn: 0x16b374d848n, lsn: 0n, systemId: 7391234567890123457n })
    assert.deepEqual(
      [last()['startLsn'], last()['lsn'], last()['systemId']],
      ['16/B374D848', '0/0', '7391234567890123457'],
    )
  })

  test('drops what is below its level', () => {
    const { log, lines } = recorder({ level: 'warn' })
    log.debug('no')
    log.info('no')
    log.warn('yes')
    log.error('yes')
    assert.equal(lines.length, 2)
  })

  test('adds the fields of a child to its every message', () => {
    const { log, last } = recorder()
    log.child({ slot: 'walrx' }).child({ timeline: 2 }).info('streaming', { timeline: 3 })
    assert.deepEqual([last()['slot'], last()['timeline']], ['walrx', 3])
  })

  test('writes an error with code, message, hint and causes; the stack at debug only', () => {
    const error = new WalrxError('WALRX_CONNECT_FAILED', 'db1 refused', {
      hint: 'start it',
      cause: new Error('ECONNREFUSED'),
    })
    const { log, last } = recorder()
    log.warn('connection failed', { error })
    assert.deepEqual(last()['error'], {
      code: 'WALRX_CONNECT_FAILED',
      message: 'db1 refused',
      hint: 'start it',
      cause: { message: 'ECONNREFUSED' },
    })
    const debug = recorder({ level: 'debug' })
    debug.log.warn('connection failed', { error })
    assert.match(String((debug.last()['error'] as { stack: string }).stack), /log\.test/)
  })

  test('survives what JSON cannot say', () => {
    const { log, last } = recorder()
    const circle: Record<string, unknown> = {}
    circle['self'] = circle
    log.info('odd', { circle, nothing: undefined, when: new Date(0), list: [1n] })
    assert.equal(last()['msg'], 'odd')
    assert.deepEqual(last()['list'], ['1'])
    assert.equal(last()['when'], '1970-01-01T00:00:00.000Z')
  })
})

describe('secrets', () => {
  test('never reach the log: by field name, by form, or by value anywhere', () => {
    for (const format of ['json', 'pretty'] as const) {
      const { log, lines } = recorder({ format: () => format, level: 'debug', secrets: ['hunter22'] })
      log.info('connecting with hunter22', {
        password: 'hush-1',
        nested: { secretAccessKey: 'hush-2', list: ['postgresql://u:hush-3@h/d'] },
        error: new Error('password=hush-4 was wrong, so was hunter22', { cause: new Error('hunter22') }),
      })
      assert.equal(lines.length > 0, true)
      assert.doesNotMatch(lines.join(''), /hush-|hunter22/)
    }
  })
})

test('a log for people has one line for each message', () => {
  const { log, lines } = recorder({ format: () => 'pretty' })
  log.warn('slot is in use', { slot: 'walrx', error: new Error('x') })
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /^\[[-\d]+ [\d:.]+\] WARN: slot is in use \{.*"slot":"walrx".*\}\n$/)
})

test('pino is not loaded before something is written', () => {
  const script = `
    import { createLog } from ${JSON.stringify(new URL('../../src/observe/log.ts', import.meta.url).href)}
    import { createRequire } from 'node:module'
    const loaded = () => Object.keys(createRequire(import.meta.url).cache).some((path) => path.includes('/pino/'))
    const log = createLog({ level: 'info', format: () => 'json' })
    log.debug('no')
    console.log(loaded())
    log.error('yes')
    console.log(loaded())`
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  assert.equal(stdout, 'false\ntrue\n')
  assert.match(stderr, /"msg":"yes"/)
})

test('a buffered log is written in full by flush', () => {
  const script = `
    import { createLog } from ${JSON.stringify(new URL('../../src/observe/log.ts', import.meta.url).href)}
    const log = createLog({ level: 'info', format: () => 'json', buffered: true })
    for (let line = 0; line < 2000; line++) log.info('line', { line })
    log.flush()
    process.exit(0)`
  const { stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  assert.equal(stderr.trim().split('\n').length, 2000)
})

test('the silent log says nothing', () => {
  silentLog.child({ a: 1 }).error('x')
  silentLog.info('x')
})
