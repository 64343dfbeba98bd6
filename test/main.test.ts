import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { after, before, describe, test } from 'node:test'

const main = fileURLToPath(new URL('../src/main.ts', import.meta.url))

let directory: string
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'walrx-main-'))
})
after(() => rm(directory, { recursive: true }))

/** Runs walrx as a process of its own, in an empty home and working directory. */
function walrx(
  args: readonly string[],
  options: { nodeArgs?: string[]; env?: Record<string, string>; cwd?: string } = {},
) {
  const env = { PATH: process.env['PATH'] ?? '', HOME: directory, ...options.env }
  const { status, stdout, stderr } = spawnSync(process.execPath, [...(options.nodeArgs ?? []), main, ...args], {
    encoding: 'utf8',
    timeout: 120_000,
    env,
    cwd: options.cwd ?? directory,
  })
  return { status, stdout, stderr }
}

/** Runs a line of bash in which `walrx` is walrx. */
function shell(line: string) {
  const script = `walrx() { '${process.execPath}' '${main}' "$@"; }; ${line}`
  const env = { PATH: process.env['PATH'] ?? '', HOME: directory }
  return spawnSync('bash', ['-c', script], { encoding: 'utf8', env, cwd: directory })
}

/** Makes Node say that it is another version. */
const pretend = (version: string) => [
  '--import',
  `data:text/javascript,Object.defineProperty(process,'versions',{value:{...process.versions,node:'${version}'}})`,
]

describe('the process', () => {
  test('prints its version and nothing else', () => {
    const { status, stdout, stderr } = walrx(['--version'])
    assert.deepEqual([status, stderr], [0, ''])
    assert.match(stdout, /^walrx \d+\.\d+\.\d+\n$/)
  })

  test('ends with the status of the program', () => {
    const { status, stderr } = walrx(['no-such-command'])
    assert.equal(status, 2)
    assert.match(stderr, /^walrx: there is no command no-such-command\n/)
  })

  test('keeps its compile cache in the home directory, not where everybody may write', async () => {
    walrx(['--version'])
    assert.deepEqual(await readdir(join(directory, '.cache')), ['walrx'])
    assert.notDeepEqual(await readdir(join(directory, '.cache', 'walrx')), [])
  })

  test('starts without a home that it could write to', async () => {
    const file = join(directory, 'file')
    await writeFile(file, '')
    for (const home of ['/proc/nowhere', join(directory, 'none'), file]) {
      assert.equal(walrx(['--version'], { env: { HOME: home } }).status, 0, home)
    }
    assert.ok(!(await readdir(directory)).includes('none'))
  })
})

describe('a Node that is too old', () => {
  test('is told in one line', () => {
    for (const version of ['18.20.0', '20.20.2', '22.14.0', '23.7.0']) {
      const { status, stdout, stderr } = walrx(['--version'], { nodeArgs: pretend(version) })
      assert.deepEqual([status, stdout], [2, ''], version)
      assert.match(
        stderr,
        new RegExp(`^walrx: Node\\.js ${version.replaceAll('.', '\\.')} is too old: [^\n]*22\\.15[^\n]*\n$`),
      )
    }
    for (const version of ['22.15.0', '23.8.0', '24.0.0', '100.0.0']) {
      assert.equal(walrx(['--version'], { nodeArgs: pretend(version) }).status, 0, version)
    }
  })

  test('does not make a recovering server promote', async () => {
    const old = { nodeArgs: pretend('20.20.2') }
    assert.equal(walrx(['wal-fetch', 'A', 'B'], old).status, 126)
    const standby = await mkdtemp(join(directory, 'standby-'))
    await writeFile(join(standby, 'standby.signal'), '')
    assert.equal(walrx(['wal-fetch', 'A', 'B'], { ...old, cwd: standby }).status, 1)
  })
})

test('a crash that nothing caught is one line, with 126 for a recovering server', () => {
  const throwing = "queueMicrotask(()=>{throw new Error('boom password=hush')})"
  const crash = `data:text/javascript,process.on('newListener',(name)=>{if(name==='uncaughtException')${throwing}})`
  const { status, stderr } = walrx(['wal-fetch', '--help'], { nodeArgs: ['--import', crash] })
  assert.equal(status, 126)
  const defect = 'this is a defect of walrx: run the command again with --log-level debug, and report it with the stack'
  assert.equal(stderr, `walrx: unexpected error: boom password=[redacted]\nhint: ${defect}\n`)
})

describe('what the machine refuses', () => {
  test('standard output on a full disk is 9, and no success', () => {
    for (const args of ['--help', '--version', `wal-show --file-prefix ${directory}`]) {
      const { status, stderr } = shell(`walrx ${args} >/dev/full`)
      assert.equal(status, 9, args)
      assert.match(stderr, /^walrx: standard output cannot be written: ENOSPC/)
    }
  })

  test('a reader of standard output that goes away is no failure', () => {
    assert.equal(shell('walrx --help | head -n 1; exit "${PIPESTATUS[0]}"').status, 0)
  })

  test('standard error that cannot be written changes nothing', () => {
    assert.equal(shell(`walrx backup-list --file-prefix ${directory} 2>/dev/full`).status, 0)
    assert.equal(shell('walrx no-such-command 2>/dev/full').status, 2)
  })
})

test('a program that stops waiting without an end is no missing file for a recovering server', () => {
  const source = 'export const runProgram=()=>new Promise(()=>{})'
  const load = `(url,context,next)=>url.includes('/cli/program.')?{format:'module',shortCircuit:true,source:'${source}'}:next(url,context)`
  const hook = `data:text/javascript,import{registerHooks}from'node:module';registerHooks({load:${load}})`
  const { status } = walrx(['wal-fetch', 'A', 'B'], { nodeArgs: ['--import', hook] })
  assert.equal(status, 126)
})
