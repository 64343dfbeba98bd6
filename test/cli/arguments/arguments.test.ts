import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { checkArguments, type RawArguments } from '../../../src/cli/arguments/arguments.ts'
import type { Command } from '../../../src/cli/command.ts'
import { parsePlain } from '../../../src/cli/arguments/plain-arguments.ts'
import { parseWithYargs } from '../../../src/cli/arguments/yargs-arguments.ts'
import { WalrxError } from '../../../src/primitives/errors.ts'

const fetch: Command = {
  name: 'wal-fetch',
  positionals: [
    { name: 'name', help: 'file' },
    { name: 'dest', help: 'where' },
  ],
  examples: [],
  run: () => Promise.resolve(0),
}
const receive: Command = { name: 'wal-receive', positionals: [], examples: [], run: () => Promise.resolve(0) }

type Parser = (command: Command, args: readonly string[]) => RawArguments

/** What a command line comes to: values, help, or the message and hint of its error. */
function outcome(parser: Parser, command: Command, args: readonly string[]): unknown {
  const raw = parser(command, args)
  if (raw.help) return 'help'
  try {
    const { flags, positionals } = checkArguments(command, raw)
    return { flags: Object.fromEntries(flags), positionals }
  } catch (error) {
    assert.ok(error instanceof WalrxError && error.code === 'WALRX_USAGE')
    return [error.message, error.hint]
  }
}

/** The outcome, which must be the same by both parsers. */
function both(command: Command, args: readonly string[]): unknown {
  const plain = outcome(parsePlain, command, args)
  assert.deepEqual(outcome(parseWithYargs, command, args), plain, args.join(' '))
  return plain
}

const files = { name: '000000010000000000000001', dest: 'pg_wal/RECOVERYXLOG' }
const names = [files.name, files.dest]

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

  test('take one-letter flags with the value apart, behind = or joined', () => {
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

  test('agree about any mixture of words', () => {
    const word = fc.constantFrom(
      ...[
        'a',
        'b',
        '',
        '-',
        '--',
        '-x',
        '-h',
        '--foo',
        '--foo=1',
        '--config',
        '--config=c',
        '--log-level',
        '--log-level=debug',
      ],
      ...[
        '--s3-force-path-style',
        '--no-s3-force-path-style',
        '--s3-force-path-style=false',
        'true',
        'false',
        '--no-config',
        '7',
      ],
    )
    fc.assert(
      fc.property(fc.array(word, { maxLength: 7 }), (args) => void both(fetch, args)),
      { numRuns: 400 },
    )
  })
})
