/**
 * Objects decoded by programs that know nothing of walrx: libsodium by Python's PyNaCl, gpg, and the tools of the codecs. Each
 * must be exactly one stream.
 */
import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { WriteMethod } from '../../../src/compression/codec.ts'
import { type EncryptionRow, pgpPassphrase, pgpSecretKey } from './encryption-rows.ts'

const run = promisify(execFile)
const script = fileURLToPath(new URL('secretstream.py', import.meta.url))
const outputBytesMax = 128 * 1024 * 1024

/** What each program is asked to show that it is there. */
const programs = {
  libsodium: ['python3', '-c', 'import nacl.bindings'],
  OpenPGP: ['gpg', '--version'],
  zstd: ['zstd', '--version'],
  lz4: ['lz4', '--version'],
  brotli: ['brotli', '--version'],
  lzma: ['xz', '--version'],
} as const

function isThere([command, ...args]: readonly [string, ...string[]]): boolean {
  try {
    execFileSync(command, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const there = new Map<string, boolean>()

/** Why a row cannot be decoded by its reference tools, or false. */
export function referenceSkip({ codec, method }: EncryptionRow): string | false {
  for (const name of [method, codec]) {
    if (name === 'none') continue
    const program = programs[name]
    if (!there.has(name)) there.set(name, isThere(program))
    if (there.get(name) !== true) return `${program.join(' ')} does not run`
  }
  return false
}

/**
 * Decrypts and decompresses objects.
 * @param isCompressed false for those that are stored as they are, but for the encryption
 * @returns the contents in the order of the files
 */
export async function decodeByReference(
  row: EncryptionRow,
  files: readonly string[],
  isCompressed: (file: string) => boolean = () => true,
): Promise<Buffer[]> {
  const folder = mkdtempSync(join(tmpdir(), 'walrx-ref-'))
  try {
    const decrypted = row.method === 'libsodium' ? await bySodium(row, files, folder) : await byGpg(files, folder)
    const contents: Buffer[] = []
    for (const [index, file] of files.entries()) {
      const path = decrypted[index] ?? ''
      contents.push(isCompressed(file) ? await decompress(row.codec, path, file) : await readFile(path))
    }
    return contents
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function bySodium({ keyBytes }: EncryptionRow, files: readonly string[], folder: string): Promise<string[]> {
  const python = spawn('python3', [script, folder, ...files], { stdio: ['pipe', 'ignore', 'pipe'] })
  let stderr = ''
  python.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  python.stdin.end(keyBytes?.toString('hex'))
  const status = await new Promise((resolve) => python.once('close', resolve))
  assert.equal(status, 0, stderr)
  return files.map((_, index) => join(folder, String(index)))
}

async function byGpg(files: readonly string[], folder: string): Promise<string[]> {
  const batch = ['--homedir', folder, '--batch', '--pinentry-mode', 'loopback', '--passphrase', pgpPassphrase]
  await run('gpg', [...batch, '--import', pgpSecretKey])
  try {
    for (const [index, file] of files.entries()) {
      // gpg ends with an error for what is not authenticated, is cut, or is followed by anything.
      await run('gpg', [...batch, '--output', join(folder, `content-${index}`), '--decrypt', file])
    }
  } finally {
    await run('gpgconf', ['--homedir', folder, '--kill', 'all'])
  }
  return files.map((_, index) => join(folder, `content-${index}`))
}

const decompressors = {
  zstd: { command: ['zstd', '-d', '-c'], frames: ['zstd', '-l'], extension: 'zst' },
  lz4: { command: ['lz4', '-d', '-c'], frames: ['lz4', '--list'], extension: 'lz4' },
  // It refuses bytes after the stream by itself.
  brotli: { command: ['brotli', '-d', '-c'], frames: undefined, extension: 'br' },
  lzma: { command: ['xz', '--format=lzma', '-d', '-c'], frames: undefined, extension: 'lzma' },
} as const

async function decompress(codec: WriteMethod, path: string, file: string): Promise<Buffer> {
  if (codec === 'none') return readFile(path)
  const tool = decompressors[codec as keyof typeof decompressors]
  const [command, ...args] = tool.command
  const named = `${path}.${tool.extension}`
  await writeFile(named, await readFile(path))
  if (tool.frames) {
    const [lister, ...options] = tool.frames
    const { stdout } = await run(lister, [...options, named])
    // The first number of the line is that of the frames.
    assert.equal(/^\s*(\d+)\s/m.exec(stdout)?.[1], '1', `${file}: ${stdout}`)
  }
  const options = { encoding: 'buffer', maxBuffer: outputBytesMax } as const
  const { stdout } = await run(command, [...args, named], options)
  return stdout
}
