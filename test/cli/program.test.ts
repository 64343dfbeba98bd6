import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { PassThrough } from 'node:stream'
import { describe, test } from 'node:test'
import type { Command, CommandContext } from '../../src/cli/command.ts'
import type { Registry } from '../../src/cli/command-loaders.ts'
import { runProgram } from '../../src/cli/program.ts'
import type { CommandName } from '../../src/config/options/option-types.ts'
import { StoppedError, WalrxError } from '../../src/primitives/errors.ts'

type Run = (context: CommandContext) => Promise<number>

/** A registry of two commands that do `run`. */
function registry(run: Run): Registry {
  const command = (name: CommandName, ...positionals: string[]): Command => ({
    name,
    positionals: positionals.map((each) => ({ name: each, help: each })),
    examples: [{ call: `walrx ${name} …`, means: 'an example' }],
    run,
  })
  const entry = (found: Command) => ({ summary: `does ${found.name}`, load: () => Promise.resolve(found) })
  return {
    'backup-push': entry(command('backup-push')),
    'wal-receive': entry(command('wal-receive')),
    'wal-fetch': entry(command('wal-fetch', 'name', 'dest')),
  }
}

/** Runs the program with a command line; what it printed, and how it ended. */
async function run(
  line: string,
  execute: Run = () => Promise.resolve(0),
  environment: Record<string, string | undefined> = {},
  signals = new EventEmitter(),
) {
  const exits: number[] = []
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const status = await runProgram(
    {
      args: line.split(' ').filter((word) => word !== ''),
      environment,
      home: undefined,
      stdin: new PassThrough(),
      stdout,
      stderr,
      signals,
      exit: (code) => exits.push(code),
    },
    registry(execute),
  )
  const text = (stream: PassThrough) => (stream.read() as Buffer | null)?.toString() ?? ''
  return { status, stdout: text(stdout), stderr: text(stderr), exits }
}

const fails =
  (error: unknown): Run =>
  () =>
    Promise.reject(error as Error)

describe('help', () => {
  test('lists the commands, the exit statuses and examples', async () => {
    const { status, stdout } = await run('--help')
    assert.equal(status, 0)
    assert.match(stdout, /walrx wal-receive +does wal-receive\n/)
    assert.match(stdout, /Exit status:\n +0 +done\n/)
    assert.match(stdout, /\n {2}WALG_S3_PREFIX=s3:\/\/backups\/db1 walrx backup-fetch \/srv\/pgdata LATEST --recover\n/)
    assert.doesNotMatch(stdout, /\[command\]/)
    assert.equal((await run('help')).stdout, stdout)
  })

  test('of a command has its options in groups, with variable and default', async () => {
    const { status, stdout } = await run('wal-receive --help')
    assert.equal(status, 0)
    assert.match(stdout, /^walrx wal-receive \[options\]\n\nDoes wal-receive\.\n/)
    assert.match(stdout, /\nReceive:\n(.*\n)*? +-S, --slotname NAME +physical.*\s+\[WALG_SLOTNAME;\s+default walrx\]/)
    assert.match(stdout, /^ +--slotless +use no slot/m)
    assert.match(stdout, /AWS_SECRET_ACCESS_KEY: secret key\n/)
    assert.doesNotMatch(stdout, /--download-concurrency/)
    assert.equal((await run('help wal-receive')).stdout, stdout)
    assert.match((await run('wal-fetch -h')).stdout, /^walrx wal-fetch NAME DEST \[options\]\n/)
  })

  test('of a command has its own options before those of the storage, and S3 last', async () => {
    const { stdout } = await run('wal-receive --help')
    const groups = [...stdout.matchAll(/^(\w+):$/gm)].map(([, group]) => group)
    assert.deepEqual(groups, [
      'Examples',
      'Receive',
      'General',
      'PostgreSQL',
      'Storage',
      'Compression',
      'Encryption',
      'S3',
    ])
  })

  test('wraps at COLUMNS, all but the examples', async () => {
    for (const line of ['--help', 'wal-receive --help', 'wal-fetch --help']) {
      const { stdout } = await run(line, undefined, { COLUMNS: '72' })
      const wide = stdout.split('\n').filter((each) => each.length > 72 && !/^ {2}(#|\w+=|walrx)/.test(each))
      assert.deepEqual(wide, [], line)
    }
  })

  test('goes to standard error with status 2 when nothing was asked', async () => {
    const { status, stdout, stderr } = await run('')
    assert.deepEqual([status, stdout], [2, ''])
    assert.match(stderr, /^walrx COMMAND/)
  })
})

test('the version is that of the package', async () => {
  assert.match((await run('--version')).stdout, /^walrx \d+\.\d+\.\d+\n$/)
  assert.equal((await run('-V')).status, 0)
})

describe('a command', () => {
  test('gets its options, arguments and a log, and its result is the exit status', async () => {
    const seen: CommandContext[] = []
    const { status } = await run(
      'wal-fetch A B --storage-prefix /x',
      (context) => (seen.push(context), Promise.resolve(74)),
      {
        WALG_DOWNLOAD_CONCURRENCY: '3',
      },
    )
    assert.equal(status, 74)
    const [context] = seen
    assert.deepEqual(context?.positionals, { name: 'A', dest: 'B' })
    const { storagePrefix, downloadConcurrency } = context.options as unknown as Record<string, unknown>
    assert.deepEqual([storagePrefix, downloadConcurrency], ['/x', 3])
  })

  test('is not started when the command line or a setting is wrong', async () => {
    const never: Run = () => assert.fail('was started')
    for (const line of ['wal-receive x', 'wal-receive --memory 1', 'wal-receive --foo', 'wal-recieve', '--foo']) {
      const { status, stdout, stderr } = await run(line, never)
      assert.deepEqual([status, stdout], [2, ''], line)
      assert.match(stderr, /^walrx: [^\n]+\n(hint: [^\n]+\n)?$/, line)
    }
    assert.match((await run('wal-recieve')).stderr, /hint: did you mean wal-receive\?/)
    assert.equal((await run('wal-receive', never, { YC_CSE_KMS_KEY_ID: 'k' })).status, 2)
  })
})

describe('an error', () => {
  test('is one line and a hint, with the exit status of the table', async () => {
    const error = new WalrxError('WALRX_AUTH_FAILED', 'db1:5432 rejected role "walrx"', { hint: 'check pg_hba.conf' })
    const { status, stderr } = await run('wal-receive --log-format pretty', fails(error))
    assert.equal(status, 3)
    assert.equal(stderr, 'walrx: db1:5432 rejected role "walrx"\nhint: check pg_hba.conf\n')
  })

  test('of several lines is reported in one', async () => {
    const { stderr } = await run('wal-receive --log-format pretty', fails(new WalrxError('WALRX_USAGE', 'a\n  b')))
    assert.equal(stderr, 'walrx: a b\n')
  })

  test('that nobody foresaw shows its stack at log level debug only', async () => {
    const plain = await run('wal-receive --log-format pretty', fails(new TypeError('x is undefined')))
    assert.equal(plain.status, 1)
    assert.equal(
      plain.stderr,
      'walrx: unexpected error: x is undefined\nhint: this is a defect of walrx: run the command again with --log-level debug, and report it with the stack\n',
    )
    const debug = await run('wal-receive --log-format pretty --log-level debug', fails(new TypeError('x is undefined')))
    assert.match(debug.stderr, /program\.test\.ts/)
  })

  test('never shows a secret', async () => {
    const error = new WalrxError('WALRX_STORAGE_DENIED', 'key hunter22 was refused', { hint: 'hunter22 is wrong' })
    const { stderr } = await run('wal-receive --log-format pretty', fails(error), { AWS_SECRET_ACCESS_KEY: 'hunter22' })
    assert.doesNotMatch(stderr, /hunter22/)
  })
})

describe('wal-fetch', () => {
  test('never ends with a status that PostgreSQL reads as "no such file" for anything but that', async () => {
    const errors = [
      new WalrxError('WALRX_USAGE', 'x'),
      new WalrxError('WALRX_STORAGE_UNAVAILABLE', 'x'),
      new WalrxError('WALRX_OTHER_CLUSTER', 'x'),
      new TypeError('x'),
      'thrown text',
    ]
    for (const error of errors) assert.equal((await run('wal-fetch A B', fails(error))).status, 126, String(error))
    for (const line of ['wal-fetch', 'wal-fetch A B C', 'wal-fetch A B --foo', 'wal-fetch A B --log-level x']) {
      assert.equal((await run(line)).status, 126, line)
    }
    assert.equal((await run('wal-fetch A B', undefined, { WALG_CONFIG_PATH: '/nonexistent' })).status, 126)
    assert.equal((await run('wal-fetch A B', undefined, { YC_CSE_KMS_KEY_ID: 'k' })).status, 126)
  })
})

describe('signals', () => {
  test('the first asks to finish, the second to drop everything, the third ends the process', async () => {
    const signals = new EventEmitter()
    const states: boolean[][] = []
    const { status, exits } = await run(
      'wal-receive',
      ({ signals: { drain, now } }) => {
        const look = () => states.push([drain.aborted, now.aborted])
        look()
        for (const name of ['SIGTERM', 'SIGINT', 'SIGTERM']) {
          signals.emit(name, name)
          look()
        }
        return Promise.resolve(7)
      },
      {},
      signals,
    )
    assert.deepEqual(states, [
      [false, false],
      [true, false],
      [true, true],
      [true, true],
    ])
    assert.deepEqual([status, exits], [7, [7]])
    assert.deepEqual(signals.eventNames(), [])
  })

  /** A command that a SIGTERM makes give up. */
  const givesUp = (signals: EventEmitter): Run => {
    return ({ signals: { drain } }) => {
      signals.emit('SIGTERM', 'SIGTERM')
      return Promise.reject(drain.reason as Error)
    }
  }

  test('a command that gives up because of one ends as the signal would have ended it, and reports it', async () => {
    const signals = new EventEmitter()
    const { status, stderr } = await run('wal-receive --log-format pretty', givesUp(signals), {}, signals)
    assert.deepEqual([status, stderr], [143, 'walrx: SIGTERM stopped wal-receive before it was done\n'])
  })

  test('what is left of the command comes with it: by its error, else by the command', async () => {
    const stopAtOnce = new EventEmitter()
    const left: Run = () => {
      stopAtOnce.emit('SIGINT', 'SIGINT')
      return Promise.reject(new StoppedError('all but the last byte is stored', new Error('aborted')))
    }
    const { status, stderr } = await run('wal-receive --log-format pretty', left, {}, stopAtOnce)
    assert.equal(status, 130)
    assert.match(
      stderr,
      /^walrx: SIGINT stopped wal-receive before it was done\nhint: all but the last byte is stored\n$/,
    )
  })

  test('a third one ends a command that is no service as the signal would', async () => {
    const signals = new EventEmitter()
    const impatient: Run = () => {
      for (const name of ['SIGINT', 'SIGINT', 'SIGINT']) signals.emit(name, name)
      return Promise.resolve(0)
    }
    assert.deepEqual((await run('backup-push', impatient, {}, signals)).exits, [130])
  })

  test('never make a wal-fetch end with a status that PostgreSQL takes for its own signal or for a missing file', async () => {
    const signals = new EventEmitter()
    assert.equal((await run('wal-fetch A B', givesUp(signals), {}, signals)).status, 126)
    const impatient: Run = () => {
      for (const name of ['SIGTERM', 'SIGTERM', 'SIGTERM']) signals.emit(name, name)
      return Promise.resolve(126)
    }
    assert.deepEqual((await run('wal-fetch A B', impatient, {}, signals)).exits, [126])
  })
})
