/** Every mistake with a key is one line, with the same words whichever command needs it, and nothing of the key. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { after, before, describe, test } from 'node:test'
import { runProgram } from '../../src/cli/program.ts'
import { Random } from '../harness/random.ts'

const folder = mkdtempSync(join(tmpdir(), 'walrx-bad-keys-'))
const archive = join(folder, 'archive')
const at = (name: string) => join(folder, name)
const segment = '000000010000000000000001'

/** In every key of this file: nothing that is printed may have it. */
const mark = 'Hush0123456789'

const random = new Random(4)
const randomBytes = (count: number) => Buffer.from(Array.from({ length: count }, () => random.int(0, 255)))

/** A mistake: its settings, and the line that they deserve. */
interface Mistake {
  readonly env: Record<string, string>
  readonly says: RegExp
  readonly hint: RegExp
}

const command = (text: string) => ({ WALRX_KEY_COMMAND: text })
const hex = { WALG_LIBSODIUM_KEY_TRANSFORM: 'hex' }

const mistakes: Readonly<Record<string, Mistake>> = {
  'a key that is too short': {
    env: { WALG_LIBSODIUM_KEY: mark },
    says: /^WALG_LIBSODIUM_KEY: the key has 14 bytes, and needs 25 at least$/,
    hint: /./,
  },
  'a key that is no hex': {
    env: { WALG_LIBSODIUM_KEY: `${mark}${'z'.repeat(50)}`, ...hex },
    says: /^WALG_LIBSODIUM_KEY: the key has /,
    hint: /./,
  },
  'hex of too few bytes': {
    env: { WALG_LIBSODIUM_KEY: '0123456789', ...hex },
    says: /^WALG_LIBSODIUM_KEY: the key has /,
    hint: /./,
  },
  'base64 of too many bytes': {
    env: { WALG_LIBSODIUM_KEY: Buffer.alloc(48, mark).toString('base64'), WALG_LIBSODIUM_KEY_TRANSFORM: 'base64' },
    says: /^WALG_LIBSODIUM_KEY: the key has 48 bytes/,
    hint: /./,
  },
  'an unknown transform': {
    env: { WALG_LIBSODIUM_KEY: mark.repeat(3), WALG_LIBSODIUM_KEY_TRANSFORM: 'rot13' },
    says: /^WALG_LIBSODIUM_KEY_TRANSFORM=rot13 \(from environment\): must be one of none, hex, base64$/,
    hint: /^$/,
  },
  'bytes that are not UTF-8': {
    env: { WALG_LIBSODIUM_KEY: `${mark}\ufffd${mark}` },
    says: /^WALG_LIBSODIUM_KEY: the key has bytes that are not UTF-8$/,
    hint: /WALG_LIBSODIUM_KEY_PATH/,
  },
  'an OpenPGP key in the place of one of libsodium': {
    env: { WALG_LIBSODIUM_KEY: `-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n${mark}\n` },
    says: /^WALG_LIBSODIUM_KEY: this is an OpenPGP key, and no key of libsodium$/,
    hint: /WALG_PGP_KEY_PATH/,
  },
  'a PEM file in the place of a key of libsodium': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('pem') },
    says: /^WALG_LIBSODIUM_KEY_PATH=\S+\/pem: this is a PEM file, and no key of libsodium$/,
    hint: /openssl rand -hex 32/,
  },
  'a binary OpenPGP key': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('binary') },
    says: /^WALG_LIBSODIUM_KEY_PATH=\S+\/binary: this is an OpenPGP key, and no key of libsodium$/,
    hint: /--armor/,
  },
  'a file that is missing': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('missing') },
    says: /^the key file WALG_LIBSODIUM_KEY_PATH=\S+\/missing does not exist$/,
    hint: /correct the path/,
  },
  'a relative path that leads nowhere': {
    env: { WALG_PGP_KEY_PATH: 'no/such' },
    says: /^the key file WALG_PGP_KEY_PATH=no\/such, which is \/\S+\/no\/such, does not exist$/,
    hint: /data directory/,
  },
  'a path through a file': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('pem/key') },
    says: /^the key file WALG_LIBSODIUM_KEY_PATH=\S+ does not exist: a part of its path is no directory$/,
    hint: /correct the path/,
  },
  'a directory': {
    env: { WALG_PGP_KEY_PATH: folder },
    says: /^the key file WALG_PGP_KEY_PATH=\S+ is a directory$/,
    hint: /name the file/,
  },
  'a pipe that nobody writes to': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('pipe') },
    says: /^the key file WALG_LIBSODIUM_KEY_PATH=\S+\/pipe is no regular file$/,
    hint: /WALRX_KEY_COMMAND/,
  },
  'an empty file': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('empty') },
    says: /^the key file WALG_LIBSODIUM_KEY_PATH=\S+\/empty is empty$/,
    hint: /write the key into it/,
  },
  'a file that is too large': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('large') },
    says: /^the key file WALG_LIBSODIUM_KEY_PATH=\S+\/large has more than 1 MB$/,
    hint: /./,
  },
  'links that form a circle': {
    env: { WALG_LIBSODIUM_KEY_PATH: at('circle') },
    says: /^the key file WALG_LIBSODIUM_KEY_PATH=\S+\/circle cannot be opened: the symbolic links/,
    hint: /^$/,
  },
  'a key in the place of its path': {
    env: { WALG_LIBSODIUM_KEY_PATH: `${mark}${mark}${mark}` },
    says: /^WALG_LIBSODIUM_KEY_PATH looks like a key, and must be the path of a file$/,
    hint: /mode 0600/,
  },
  'an armored key in the place of its path': {
    env: { WALG_PGP_KEY_PATH: `-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n${mark}/${mark}\n` },
    says: /^WALG_PGP_KEY_PATH looks like a key, and must be the path of a file$/,
    hint: /mode 0600/,
  },
  'a command that is not there': {
    env: command('no-such-program get key'),
    says: /^WALRX_KEY_COMMAND ended with status 127 \(command not found\): .*no-such-program: .*not found$/,
    hint: /whole path/,
  },
  'a command that cannot be run': {
    env: command(at('pem')),
    says: /^WALRX_KEY_COMMAND ended with status 126 \(the program cannot be run\): /,
    hint: /same user/,
  },
  'a command that fails, and says why': {
    env: command(`echo ${mark}${mark}; echo "could not find ${mark}${mark}: X-Vault-Token: hvs.${mark}" >&2; exit 3`),
    says: /^WALRX_KEY_COMMAND ended with status 3: could not find \*+: X-Vault-Token: \[redacted\]$/,
    hint: /same environment/,
  },
  'a command that dies': {
    env: command('kill -9 $$'),
    says: /^WALRX_KEY_COMMAND was ended by SIGKILL$/,
    hint: /same user/,
  },
  'a command that prints nothing': {
    env: command('echo; echo no key >&2'),
    says: /^WALRX_KEY_COMMAND has printed nothing: no key$/,
    hint: /must print the key/,
  },
  'a command that prints without end': {
    env: command('exec yes'),
    says: /^WALRX_KEY_COMMAND has printed more than 1 MB, and was stopped$/,
    hint: /nothing else/,
  },
  'a command that prints bytes': {
    env: command(`cat ${at('binary')}`),
    says: /^WALRX_KEY_COMMAND: what it printed is no text$/,
    hint: /hex or base64/,
  },
  'a command that prints a bad second key': {
    env: command(`echo ${mark}${mark}; echo ${mark}`),
    says: /^WALRX_KEY_COMMAND, key 2: the key has 14 bytes/,
    hint: /./,
  },
  'a command that prints a part of an OpenPGP key': {
    env: command(`echo -----BEGIN PGP PRIVATE KEY BLOCK-----; echo ${mark}`),
    says: /^WALRX_KEY_COMMAND: an OpenPGP key in it has no end$/,
    hint: /-----END PGP/,
  },
  'a file for reading that is missing': {
    env: { WALG_LIBSODIUM_KEY: mark.repeat(2), WALRX_READ_KEY_PATH: `none:${at('good')},hex:${at('missing')}` },
    says: /^the key file WALRX_READ_KEY_PATH=\S+\/missing does not exist$/,
    hint: /correct the path/,
  },
  'a file for reading that has another transform': {
    env: { WALG_LIBSODIUM_KEY: mark.repeat(2), WALRX_READ_KEY_PATH: `hex:${at('good')}` },
    says: /^WALRX_READ_KEY_PATH=\S+\/good: the key has /,
    hint: /./,
  },
  'files for reading that are none': {
    env: { WALG_LIBSODIUM_KEY: mark.repeat(2), WALRX_READ_KEY_PATH: ' , ' },
    says: /^WALRX_READ_KEY_PATH names no file$/,
    hint: /commas/,
  },
}

before(() => {
  mkdirSync(join(archive, 'wal_005'), { recursive: true })
  writeFileSync(join(archive, 'wal_005', `${segment}.zst`), randomBytes(4000))
  mkdirSync(join(archive, 'walrx_005'))
  writeFileSync(join(archive, 'walrx_005', 'system.json'), '{"SystemIdentifier":7,"WalSegmentSize":16777216}')
  writeFileSync(at('pem'), `-----BEGIN OPENSSH PRIVATE KEY-----\n${mark}\n-----END OPENSSH PRIVATE KEY-----\n`)
  writeFileSync(at('binary'), Buffer.concat([Buffer.from([0x95, 0x03, 0x98, 0x00]), randomBytes(200)]))
  writeFileSync(at('empty'), ' \r\n')
  writeFileSync(at('large'), Buffer.alloc(1024 * 1024 + 1, mark))
  writeFileSync(at('good'), `${mark}${mark}\n`)
  for (const name of ['pem', 'binary', 'empty', 'large', 'good']) chmodSync(at(name), 0o600)
  symlinkSync(at('circle'), at('circle'))
  execFileSync('mkfifo', ['-m', '600', at('pipe')])
})
after(() => rmSync(folder, { recursive: true }))

/** The commands, each with a status of its own for what is wrong with the configuration. */
const calls: readonly { readonly args: readonly string[]; readonly status: number }[] = [
  { args: ['wal-fetch', segment, at('fetched')], status: 126 },
  { args: ['wal-receive', '--status-listen', 'off', '--dbname', 'host=127.0.0.1 port=1'], status: 2 },
  { args: ['backup-push', '--dbname', 'host=127.0.0.1 port=1'], status: 2 },
]

/** Runs a command in this process. */
async function run(args: readonly string[], env: Record<string, string>): Promise<{ status: number; stderr: string }> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const status = await runProgram({
    args: [...args, '--file-prefix', archive],
    environment: { WALRX_LOG_FORMAT: 'pretty', ...env },
    home: undefined,
    stdin: new PassThrough(),
    stdout,
    stderr,
    signals: new EventEmitter(),
    exit: () => assert.fail('must not exit'),
  })
  return { status, stderr: String((stderr.read() as Buffer | null) ?? '') }
}

const waitedFor = ['a command that fails, and says why', 'a command that dies']

describe('what is wrong with a key', () => {
  for (const [what, { env, hint, says }] of Object.entries(mistakes)) {
    test(`is said in one line: ${what}`, async () => {
      for (const { args, status } of calls) {
        // The receiver waits a minute for what may come back (test/service has the end of that, with a clock of its own).
        if (args[0] === 'wal-receive' && waitedFor.includes(what)) continue
        const end = await run(args, env)
        const [line = '', next = 'hint: ', ...rest] = end.stderr.replace(/\n$/, '').split('\n')
        assert.equal(end.status, status, end.stderr)
        assert.match(line.replace(/^walrx: /, ''), says)
        assert.match(next.replace(/^hint: /, ''), hint)
        assert.deepEqual(rest, [])
        assert.ok(!end.stderr.includes(mark) && !end.stderr.includes(Buffer.from(mark).toString('hex')), end.stderr)
      }
    })
  }

  test('keeps a command that encrypts from starting with keys for reading only, and a recovery does not mind', async () => {
    const env = { WALRX_READ_KEY_PATH: at('good') }
    const { status, stderr } = await run(['backup-push'], env)
    assert.equal(status, 2)
    assert.match(stderr, /^walrx: WALRX_READ_KEY_PATH is set, and no key to encrypt with\n/)
    const fetched = await run(['wal-fetch', segment, at('fetched')], env)
    assert.match(fetched.stderr, /WALRX_READ_KEY_PATH=\S+\/good \(libsodium\)/)
  })

  test('is no matter to commands that need no key', async () => {
    const broken = command(`touch ${at('ran')}; exit 1`)
    for (const args of [
      ['backup-list'],
      ['wal-show'],
      ['restore-command'],
      ['wal-fetch', '000000010000000000000009', at('fetched')],
    ]) {
      const { status, stderr } = await run(args, broken)
      assert.ok([0, 74].includes(status), `${args.join(' ')}: ${status} ${stderr}`)
      assert.ok(!existsSync(at('ran')), args.join(' '))
    }
    assert.equal((await run(['wal-fetch', segment, at('fetched')], broken)).status, 126)
    assert.ok(existsSync(at('ran')))
  })
})
