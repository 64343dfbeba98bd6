import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { after, before, test } from 'node:test'
import { runProgram } from '../../src/cli/program.ts'
import { goldenArchive } from '../harness/made/golden-backups.ts'
import { Random } from '../harness/random.ts'

let root: string
before(() => {
  root = mkdtempSync(join(tmpdir(), 'walrx-damaged-'))
})
after(() => rmSync(root, { recursive: true, force: true }))

/** Runs the program inside this process; its exit status and what it said. */
async function run(args: readonly string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  stdout.resume()
  const said: Buffer[] = []
  stderr.on('data', (chunk: Buffer) => said.push(chunk))
  const status = await runProgram({
    args: [...args, '--log-level', 'error', '--log-format', 'pretty'],
    environment: {},
    home: undefined,
    stdin: new PassThrough(),
    stdout,
    stderr,
    signals: new EventEmitter(),
    exit: () => assert.fail('the program ended the process'),
  })
  return { status, stderr: Buffer.concat(said).toString() }
}

/** A JSON value with one of its values replaced by another, all of them in turn. */
function* twisted(value: unknown, others: readonly unknown[]): Generator<unknown> {
  yield* others
  if (typeof value !== 'object' || value === null) return
  for (const [key, inner] of Object.entries(value).slice(0, 60)) {
    for (const each of twisted(inner, others)) {
      if (Array.isArray(value)) yield value.map((item, index) => (String(index) === key ? each : (item as unknown)))
      else yield { ...value, [key]: each }
    }
  }
}

const wrongValues: readonly unknown[] = [null, '', 'x', -1, 1.5, 1e300, 2 ** 60, true, [], {}, [null], { a: null }]

/** Objects of walrx beside those of the archive, and other damaged names. */
function addOwnObjects(archive: string): void {
  const files: Record<string, string> = {
    'walrx_005/system.json': '{"SystemIdentifier": 1, "WalSegmentSize": 16777216}',
    'walrx_005/gaps/none.json': '{}',
    'walrx_005/backups/base_000000010000000000000002.json':
      '{"owner": "x", "segments": ["000000010000000000000002", "000000010000000000000002"], "sentinel": "{}"}',
    'walrx_005/sentinel-order.json': '{}',
    'wal_005/00000002.history': '1\t0/5000000\tno recovery target specified\n',
  }
  for (const [key, text] of Object.entries(files)) {
    mkdirSync(join(archive, key, '..'), { recursive: true })
    writeFileSync(join(archive, key), text)
  }
}

/** How many of all commands are tried with one kind of damage. */
const commandShare = 0.1

const full = 'base_000000010000000000000002'
const delta = 'base_000000010000000000000004_D_000000010000000000000002'

/** The commands that read the archive; an intent only one reads. */
function readersOf(key: string, archive: string): string[][] {
  const finish = ['backup-finish', full, '--wal-timeout', '0']
  if (key.startsWith('walrx_005/backups/')) return [finish, finish, finish, finish]
  const restored = join(archive, '..', 'restored')
  return [
    ['backup-list', '--detail', '--chains'],
    ['backup-show', delta, '--detail', '--json'],
    ['backup-verify', delta],
    ['backup-fetch', restored, delta, '--recover'],
    ['wal-show'],
    ['info', '--json'],
    ['wal-finalize', '--dry-run'],
    ['backup-mark', delta],
    finish,
    ['wal-fetch', '000000010000000000000006', join(archive, '..', 'segment'), '--fetch-retry-timeout', '0'],
    ['wal-fetch', '00000002.history', join(archive, '..', 'history'), '--fetch-retry-timeout', '0'],
  ]
}

/** All files below a folder. */
function filesOf(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  return names.filter((name) => statSync(join(folder, name)).isFile())
}

/** The forms of damage that one object can have. */
function* damages(key: string, bytes: Buffer, random: () => number): Generator<Buffer> {
  yield Buffer.alloc(0)
  yield bytes.subarray(0, Math.floor(bytes.length / 2))
  yield Buffer.from([0xff, 0xfe, 0x00, ...bytes])
  const flipped = Buffer.from(bytes)
  if (flipped.length > 0) flipped.writeUInt8(0x55, Math.floor(random() * flipped.length))
  yield flipped
  if (!key.endsWith('.json')) return
  for (const value of twisted(JSON.parse(bytes.toString()), wrongValues)) yield Buffer.from(JSON.stringify(value))
}

test('no damage of an archive is taken for a defect of walrx', async (t) => {
  const seed = 1
  t.diagnostic(`seed ${seed}`)
  const random = new Random(seed).next
  const [sound, archive] = [join(root, 'sound'), join(root, 'archive')]
  cpSync(goldenArchive('walg-local-lz4-deltas'), sound, { recursive: true })
  addOwnObjects(sound)
  cpSync(sound, archive, { recursive: true })
  const defects = new Set<string>()
  for (const key of filesOf(sound)) {
    const all = [...damages(key, readFileSync(join(sound, key)), random)]
    // Documents have hundreds of values; a few are tried.
    for (const damage of all.filter((_, index) => index < 4 || random() < 4 / all.length)) {
      for (const args of readersOf(key, archive)) {
        if (random() > commandShare) continue
        writeFileSync(join(archive, key), damage)
        const { status, stderr } = await run([...args, '--file-prefix', archive])
        if (status === 1) defects.add(`${args[0]} with a damaged ${key}: ${stderr}`)
        rmSync(join(root, 'restored'), { recursive: true, force: true })
      }
    }
    rmSync(archive, { recursive: true, force: true })
    cpSync(sound, archive, { recursive: true })
  }
  assert.deepEqual([...defects], [])
})
