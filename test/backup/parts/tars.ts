/** Tars as a server sends them, written after tarCreateHeader of PostgreSQL's src/port/tar.c; and readers that are not ours. */
import { spawnSync } from 'node:child_process'
import { extract } from 'tar-stream'

/** An entry as a server sends it. Names of directories and links have no slash at their end: the server adds it. */
export interface ServerFile {
  readonly name: string | Buffer
  readonly kind: 'file' | 'directory' | 'symlink'
  /** Default: the content's length. */
  readonly size?: number
  readonly content?: Buffer
  readonly mode?: number
  /** Seconds since 1970. */
  readonly mtime?: number
  readonly linkTarget?: string
}

/** print_tar_number: octal followed by a space, or base 256 after a byte of 0x80; negative times wrap to 64 bits. */
function tarNumber(value: number, length: number): Buffer {
  const number = BigInt.asUintN(64, BigInt(value))
  if (number < 1n << BigInt((length - 1) * 3)) return Buffer.from(`${number.toString(8).padStart(length - 1, '0')} `)
  return Buffer.from(`80${number.toString(16).padStart(2 * (length - 1), '0')}`, 'hex')
}

/** tarChecksum: the sum of all bytes, its own field taken for spaces. */
export function setChecksum(block: Buffer): Buffer {
  block.fill(0x20, 148, 156)
  tarNumber(
    block.reduce((sum, byte) => sum + byte, 0),
    8,
  ).copy(block, 148)
  return block
}

/** The header block of an entry. */
export function serverHeader(file: ServerFile): Buffer {
  const { content, kind, linkTarget = '', mode = kind === 'file' ? 0o600 : 0o700, mtime = 1_700_000_000, name } = file
  const block = Buffer.alloc(512)
  const bytes = Buffer.from(name as string)
  bytes.copy(block, 0, 0, kind === 'file' ? 100 : 99)
  if (kind !== 'file') block[Math.min(bytes.length, 99)] = 0x2f
  tarNumber(mode & 0o7777, 8).copy(block, 100)
  tarNumber(999, 8).copy(block, 108)
  tarNumber(999, 8).copy(block, 116)
  tarNumber(kind === 'file' ? (file.size ?? content?.length ?? 0) : 0, 12).copy(block, 124)
  tarNumber(mtime, 12).copy(block, 136)
  block.write({ file: '0', directory: '5', symlink: '2' }[kind], 156)
  block.write(linkTarget, 157, 99)
  block.write('ustar\x0000postgres', 257)
  block.write('postgres', 297)
  tarNumber(0, 8).copy(block, 329)
  tarNumber(0, 8).copy(block, 337)
  return setChecksum(block)
}

/** Header, body and padding of each entry, without the end of the archive. */
export function serverEntries(files: readonly ServerFile[]): Buffer {
  const padding = (length: number) => Buffer.alloc((512 - (length % 512)) % 512)
  return Buffer.concat(
    files.flatMap((file) => {
      const content = (file.kind === 'file' && file.content) || Buffer.alloc(0)
      return [serverHeader(file), content, padding(content.length)]
    }),
  )
}

/** A whole archive. */
export function serverTar(files: readonly ServerFile[]): Buffer {
  return Buffer.concat([serverEntries(files), Buffer.alloc(1024)])
}

/** An entry as tar-stream reads it. */
export interface ReadEntry {
  readonly name: string
  readonly type: string
  readonly size: number
  readonly mode: number
  /** Seconds since 1970. */
  readonly mtime: number
  readonly content: Buffer
}

/** All entries of a tar, by tar-stream. */
export async function readTar(tar: Uint8Array): Promise<ReadEntry[]> {
  const entries: ReadEntry[] = []
  const extractor = extract()
  extractor.end(Buffer.from(tar))
  for await (const entry of extractor) {
    const pieces: Buffer[] = []
    for await (const piece of entry) pieces.push(piece as Buffer)
    const { mode = 0, mtime, name, size = 0, type } = entry.header
    const seconds = (mtime?.getTime() ?? 0) / 1000
    entries.push({ name, type: type ?? '', size, mode, mtime: seconds, content: Buffer.concat(pieces) })
  }
  return entries
}

/** The only header of a tar; its body need not be there, by tar-stream. */
export async function readHeader(head: Uint8Array): Promise<Omit<ReadEntry, 'content'>> {
  const extractor = extract()
  extractor.write(Buffer.from(head))
  for await (const entry of extractor) {
    const { mode = 0, mtime, name, size = 0, type } = entry.header
    return { name, type: type ?? '', size, mode, mtime: (mtime?.getTime() ?? 0) / 1000 }
  }
  throw new Error('tar-stream found no entry')
}

/** An entry as /bin/tar lists it. */
export interface ListedEntry {
  readonly name: string
  /** As ls writes it: `-rw-------`. */
  readonly mode: string
  readonly size: number
  /** Seconds since 1970. */
  readonly mtime: number
}

/**
 * What /bin/tar lists. Throws when it complains of anything.
 * @param from the bytes, or the path of a tar, in which it need not read the bodies
 */
export function listTar(from: Uint8Array | string): ListedEntry[] {
  const style = ['--quoting-style=c', '--full-time', '--numeric-owner', '--absolute-names']
  const result = spawnSync('/bin/tar', ['-tv', ...style, '-f', typeof from === 'string' ? from : '-'], {
    ...(typeof from === 'string' ? {} : { input: from }),
    env: { TZ: 'UTC', LC_ALL: 'C' },
    maxBuffer: 64 * 1024 * 1024,
    encoding: 'latin1',
  })
  if (result.status !== 0 || result.stderr !== '') throw new Error(`tar: ${result.status} ${result.stderr}`)
  return result.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => {
      const match = /^(\S{10}) \S+ +(\d+) (\S+ \S+) (".*")$/.exec(line)
      if (!match) throw new Error(`tar wrote ${line}`)
      const [, mode = '', size, time = '', quoted = ''] = match
      return { mode, size: Number(size), mtime: Date.parse(`${time.replace(' ', 'T')}Z`) / 1000, name: unquote(quoted) }
    })
}

const escapes: Readonly<Record<string, string>> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' }

/** A string of C, its bytes read as UTF-8. */
function unquote(text: string): string {
  const bytes = text
    .slice(1, -1)
    .replace(/\\([0-7]{3}|.)/g, (_, code: string) =>
      code.length === 3 ? String.fromCharCode(parseInt(code, 8)) : (escapes[code] ?? code),
    )
  return Buffer.from(bytes, 'latin1').toString('utf8')
}
