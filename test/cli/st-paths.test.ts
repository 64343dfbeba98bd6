/** What `walrx st` makes of paths as people type them: one line and status 2 for what names nothing, and never a defect. */
import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { after, before, test } from 'node:test'
import { runProgram } from '../../src/cli/program.ts'
import { parseObjectPath } from '../../src/objects/object-path.ts'
import { goldenArchive } from '../harness/made/golden-backups.ts'

let root: string
let file: string
before(() => {
  root = mkdtempSync(join(tmpdir(), 'walrx-st-'))
  cpSync(goldenArchive('walg-remote-zstd'), join(root, 'archive'), { recursive: true })
  file = join(root, 'file')
  writeFileSync(file, 'content\n')
})
after(() => rmSync(root, { recursive: true, force: true }))

async function st(...words: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const text = { stdout: '', stderr: '' }
  stdout.on('data', (chunk: Buffer) => (text.stdout += chunk.toString()))
  stderr.on('data', (chunk: Buffer) => (text.stderr += chunk.toString()))
  const status = await runProgram({
    args: ['st', ...words, '--file-prefix', join(root, 'archive'), '--log-level', 'error', '--log-format', 'pretty'],
    environment: {},
    home: undefined,
    stdin: new PassThrough(),
    stdout,
    stderr,
    signals: new EventEmitter(),
    exit: () => assert.fail('the program ended the process'),
  })
  return { status, ...text }
}

const segment = 'wal_005/000000010000000000000002.zst'

test('slashes and dots that mean nothing are dropped, and .. leads nowhere', () => {
  for (const [text, key, isFolder] of [
    ['', '', true],
    ['/', '', true],
    ['.', '', true],
    ['./', '', true],
    ['//a', 'a', false],
    ['./a', 'a', false],
    ['a/./b//c', 'a/b/c', false],
    ['a//', 'a', true],
    ['a/.', 'a', true],
    ['.a/..b', '.a/..b', false],
  ] as const)
    assert.deepEqual(parseObjectPath(text), { key, isFolder }, text)
  for (const text of ['..', '../', '/../a', 'a/../b', 'a/..', 'bad\ufffd', 'a\0b', 'x'.repeat(1025)])
    assert.throws(() => parseObjectPath(text), { code: 'WALRX_USAGE' }, text)
})

test('what names nothing ends with 2, one line and a hint, and prints and stores nothing', async () => {
  const before = readdirSync(join(root, 'archive'), { recursive: true }).sort()
  const target = join(root, 'new')
  const cases: readonly (readonly [words: readonly string[], message: RegExp])[] = [
    [['ls', '..'], /"\.\." cannot be a path in the storage: /],
    [['ls', 'nosuch'], /there is no object and no folder nosuch at file:/],
    [['ls', '-r', 'nosuch/'], /no folder nosuch/],
    [['ls', '--json', 'nosuch'], /no folder nosuch/],
    [['ls', `${segment}/`], /no folder wal_005/],
    [['ls', '-g', 'nosuch*'], /there is nothing that matches nosuch\* at/],
    [['ls', '-g', ''], /"" is not a pattern/],
    [['stat', 'wal_005'], /wal_005 is a folder at file:.*, and not an object/],
    [['stat', 'wal_005/'], /"wal_005\/" is the path of a folder/],
    [['cat', 'wal_005'], /wal_005 is a folder/],
    [['cat', 'wal_005/'], /is the path of a folder/],
    [['cat', ''], /"" names no object/],
    [['cat', 'nosuch'], /there is no object nosuch at/],
    [['cat', '-g', 'nosuch*'], /nothing that matches/],
    [['get', 'nosuch', target], /there is no object nosuch at/],
    [['get', 'wal_005', target], /wal_005 is a folder/],
    [['get', 'wal_005/', target], /is the path of a folder/],
    [['get', segment, ''], /"" is not the name of a file/],
    [['get', segment, '-'], /"-" is not the name of a file/],
    [['put', file, 'a/'], /"a\/" is the path of a folder/],
    [['put', file, ''], /"" names no object/],
    [['put', file, '../a'], /cannot be a path/],
    [['put', file, 'bad\ufffd'], /it is not UTF-8/],
    [['rm', ''], /is the root of the storage: nothing was removed/],
    [['rm', '/'], /is the root of the storage/],
    [['rm', '..'], /cannot be a path/],
    [['rm', 'nosuch'], /no object and no folder nosuch/],
    [['rm', '-g', 'nosuch*'], /nosuch\*/],
    [['rm', 'wal_005'], /belongs to the archive/],
    [['check', 'read', 'wal_005/'], /is the path of a folder/],
    [['check', 'read', 'nosuch'], /there is no object nosuch/],
  ]
  for (const [words, message] of cases) {
    const { status, stderr, stdout } = await st(...words)
    assert.deepEqual([status, stdout], [2, ''], words.join(' '))
    const lines = stderr.trimEnd().split('\n')
    assert.deepEqual([lines.length, lines[1]?.startsWith('hint: ')], [2, true], stderr)
    assert.match(lines[0] ?? '', message)
  }
  assert.ok(!existsSync(target))
  assert.deepEqual(readdirSync(join(root, 'archive'), { recursive: true }).sort(), before)
})

test('a file is fetched into a directory, and never onto another file', async () => {
  const folder = join(root, 'folder')
  mkdirSync(folder)
  assert.equal((await st('get', `//${segment}`, folder)).status, 0)
  const again = await st('get', segment, folder)
  assert.equal(again.status, 9)
  assert.match(again.stderr, /folder\/000000010000000000000002\.zst is there already\nhint: /)
  for (const target of [join(root, 'none', 'x'), join(root, 'none/')]) {
    const { status, stderr } = await st('get', segment, target)
    assert.deepEqual([status, stderr.trimEnd().split('\n').length], [9, 2], stderr)
  }
})

test('an object is listed by its own name, and characters that move the cursor do not', async () => {
  const one = await st('ls', segment)
  assert.match(one.stdout, new RegExp(`^type .*\\nobj .* ${segment.replace('.', '\\.')}\\n$`))
  assert.equal((await st('put', '--no-compress', file, 'odd/a\u001b[31m\nb')).status, 0)
  assert.match((await st('ls', 'odd//')).stdout, /UTC a\?\[31m\?b\n$/)
  const listed = JSON.parse((await st('ls', 'odd', '--json')).stdout) as { name: string }[]
  assert.equal(listed[0]?.name, 'a\u001b[31m\nb')
  assert.equal((await st('put', '--no-compress', file, './odd//x')).status, 0)
  assert.equal((await st('cat', 'odd/x')).stdout, 'content\n')
  assert.equal((await st('rm', 'odd/x')).stdout, 'removed 1 object, 8 bytes\n')
  assert.equal((await st('rm', 'odd/')).status, 0)
})
