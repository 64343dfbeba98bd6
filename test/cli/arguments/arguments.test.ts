import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { usageLine } from '../../../src/cli/arguments/arguments.ts'
import type { Command } from '../../../src/cli/command.ts'
import { both } from './both-parsers.ts'

const fetch: Command = {
  name: 'wal-fetch',
  positionals: [
    { name: 'name', help: 'file' },
    { name: 'dest', help: 'where' },
  ],
  examples: [],
  run: () => Promise.resolve(0),
}
const plan: Command = { name: 'backup-plan', positionals: [], examples: [], run: () => Promise.resolve(0) }
const receive: Command = { name: 'wal-receive', positionals: [], examples: [], run: () => Promise.resolve(0) }

const several: Command<'backup-plan', 'what', 'name'> = {
  ...plan,
  name: 'backup-plan',
  positionals: [{ name: 'what', help: 'what' }],
  optionals: [{ name: 'name', help: 'of a backup' }],
  rest: { name: 'word', help: 'more' },
}

const files = { name: '000000010000000000000001', dest: 'pg_wal/RECOVERYXLOG' }
const names = [files.name, files.dest]

const plainWords = [
  'a',
  '',
  '-',
  '--',
  '7',
  'true',
  'false',
  '--foo',
  '--foo=1',
  '--config',
  '--config=c',
  '--no-config',
]
const switches = ['--json', '--json=false', '--no-json', '--no-json=x', '--help', '--help=x', '--no-help', '--full']
const letters = [
  '-h',
  '-x',
  '-3',
  '-x3',
  '-p',
  '-pf',
  '-pfx',
  '-ph',
  '-p-',
  '-p=',
  '-d',
  '-dx',
  '-d-',
  '-x-',
  '-hx',
  '-fd',
]
const oddities = [
  ...['---x', '--=', '--=x', '--p', '--no-', '--config.x', '--config.x=3', '--config[]=1', "--config='q'", '"q"'],
  ...['--config=a\nb', '-\n', '-é', '--__proto__=x', '--constructor', '--_=1', '--$0', '--logLevel=debug'],
]

describe('both parsers', () => {
  test('take flags before, between and after arguments, with or without =', () => {
    const expected = { flags: { filePrefix: '/archive', downloadConcurrency: '4' }, positionals: files }
    const [name = '', dest = ''] = names
    assert.deepEqual(both(fetch, ['--file-prefix', '/archive', '--download-concurrency=4', ...names]), expected)
    assert.deepEqual(both(fetch, [name, '--file-prefix=/archive', dest, '--download-concurrency', '4']), expected)
  })

  test('keep a value as it was typed: numbers, dots, equal signs and spaces', () => {
    for (const value of ['007', '1e3', '0x10', 'a.b.c', 'a=b', 'a b', 'true', "it's"]) {
      assert.deepEqual(both(fetch, ['--storage-prefix', value, ...names]), {
        flags: { storagePrefix: value },
        positionals: files,
      })
    }
    assert.deepEqual(both(fetch, ['--storage-prefix=-x', ...names]), {
      flags: { storagePrefix: '-x' },
      positionals: files,
    })
    assert.deepEqual(both(fetch, ['007', '1e3']), { flags: {}, positionals: { name: '007', dest: '1e3' } })
  })

  test('take switches in every form', () => {
    const forms: [string[], string][] = [
      [['--s3-force-path-style'], 'true'],
      [['--s3-force-path-style=false'], 'false'],
      [['--s3-force-path-style', 'false'], 'false'],
      [['--no-s3-force-path-style'], 'false'],
      [['--no-s3-force-path-style', '--s3-force-path-style'], 'true'],
    ]
    for (const [form, value] of forms) {
      assert.deepEqual(both(fetch, [...form, ...names]), { flags: { s3ForcePathStyle: value }, positionals: files })
    }
  })

  test('take one-letter flags with the value apart, after = or joined', () => {
    for (const form of [['-S', 'mine'], ['-Smine']]) {
      assert.deepEqual(both(receive, form), { flags: { slotName: 'mine' }, positionals: {} })
    }
    assert.deepEqual(both(receive, ['-d', 'host=db1 user=u']), {
      flags: { conninfo: 'host=db1 user=u' },
      positionals: {},
    })
  })

  test('take what follows -- for arguments', () => {
    assert.deepEqual(both(fetch, ['--', '-x', '--help']), { flags: {}, positionals: { name: '-x', dest: '--help' } })
  })

  test('show help whatever else is wrong', () => {
    for (const args of [['--help'], ['-h'], ['--foo', '--help'], [...names, 'more', '-h']])
      assert.equal(both(fetch, args), 'help')
  })

  test('refuse in the same words', () => {
    const see = 'see walrx wal-fetch --help'
    const cases: [string[], unknown][] = [
      [[], ['NAME is missing', see]],
      [['a'], ['DEST is missing', see]],
      [
        ['a', 'b', 'c'],
        ['wal-fetch takes no argument "c"', see],
      ],
      [
        [...names, '--file-prefx=/x'],
        ['wal-fetch has no option --file-prefx', 'did you mean --file-prefix?'],
      ],
      [
        [...names, '--libsodium-key=x'],
        [
          'wal-fetch has no option --libsodium-key',
          'set WALG_LIBSODIUM_KEY: every user of a machine sees the arguments of its processes',
        ],
      ],
      [
        [...names, '--slotname', 'x'],
        ['wal-fetch has no option --slotname', see],
      ],
      [
        [...names, '--no-file-prefix'],
        ['wal-fetch has no option --no-file-prefix', 'did you mean --file-prefix?'],
      ],
      [
        [...names, '-x'],
        ['wal-fetch has no option -x', see],
      ],
      [
        [...names, '--config'],
        ['--config needs a value', see],
      ],
      [
        ['--config', '--log-level', 'debug', ...names],
        ['--config needs a value', see],
      ],
      [
        [...names, '--config='],
        ['--config needs a value', see],
      ],
      [
        [...names, '--config', 'a', '--config=b'],
        ['--config is given 2 times', see],
      ],
    ]
    for (const [args, expected] of cases) assert.deepEqual(both(fetch, args), expected, args.join(' '))
  })

  test('take arguments that may be missing, and any number after them', () => {
    assert.deepEqual(both(several, []), ['WHAT is missing', 'see walrx backup-plan --help'])
    assert.deepEqual(both(several, ['a']), { flags: {}, positionals: { what: 'a' } })
    assert.deepEqual(both(several, ['a', '-f', 'b']), {
      flags: { full: 'true' },
      positionals: { what: 'a', name: 'b' },
    })
    assert.deepEqual(both(several, ['a', '', 'c', '--json', '--', '-f']), {
      flags: { json: 'true' },
      positionals: { what: 'a', name: '' },
      rest: ['c', '-f'],
    })
    const { rest: _, ...two } = several
    assert.deepEqual(both(two, ['a', 'b']), { flags: {}, positionals: { what: 'a', name: 'b' } })
    assert.deepEqual(both(two, ['a', 'b', 'c']), ['backup-plan takes no argument "c"', 'see walrx backup-plan --help'])
    assert.equal(usageLine(several), 'walrx backup-plan WHAT [NAME] [WORD...] [options]')
  })

  test('take several switches in one word, and as the last one a flag with a value', () => {
    const flags = { permanent: 'true', full: 'true' }
    for (const args of [['-pf'], ['-fp'], ['-p', '-f'], ['-ppf'], ['-p', 'true', '-f']]) {
      assert.deepEqual(both(plan, args), { flags, positionals: {} }, args.join(' '))
    }
    assert.deepEqual(both(plan, ['-pfdhost=db1']), { flags: { ...flags, conninfo: 'host=db1' }, positionals: {} })
    assert.deepEqual(both(plan, ['-pfd', 'host=db1']), { flags: { ...flags, conninfo: 'host=db1' }, positionals: {} })
    assert.equal(both(plan, ['-ph']), 'help')
  })

  test('agree about any mixture of words', () => {
    const word = fc.constantFrom(...plainWords, ...switches, ...letters, ...oddities)
    for (const command of [fetch, plan, several]) {
      fc.assert(
        fc.property(fc.array(word, { maxLength: 6 }), (args) => void both(command, args)),
        { numRuns: 600 },
      )
    }
  })
})
