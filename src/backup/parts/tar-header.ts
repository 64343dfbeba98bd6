/**
 * Headers of tar, read as a PostgreSQL server writes them and written as a part has them. Bodies pass from one to the
 * other untouched, so a header must come at once: tar-stream makes them within a stream of
 * its own, and drops the leading slash of names over 100 bytes, by which WAL-G would then not find the file.
 *
 * The server's (src/port/tar.c, tarCreateHeader): ustar, names of up to 99 bytes, sizes in octal or, beyond 8 GiB, in
 * base 256; type `0` file, `5` directory, `2` symbolic link.
 */
import { isUtf8 } from 'node:buffer'
import { WalrxError } from '../../primitives/errors.ts'
import { unusableName } from '../../postgres/backup/unusable-names.ts'

/** Bytes of a block. */
export const tarBlockBytes = 512

/** An entry as the server announces it. */
export interface ServerTarEntry {
  readonly name: string
  readonly kind: 'file' | 'directory' | 'symlink'
  /** Bytes of the body, without padding. */
  readonly size: number
  readonly mode: number
  /** Seconds since 1970. */
  readonly mtime: number
}

/** An entry of a part. */
export interface PartTarEntry {
  readonly name: string
  readonly kind: 'file' | 'directory'
  readonly size: number
  readonly mode: number
  /** Seconds since 1970. */
  readonly mtime: number
}

/** Bytes that fill the last block of a body up. */
export function paddingOf(size: number): number {
  return (tarBlockBytes - (size % tarBlockBytes)) % tarBlockBytes
}

const kinds: Readonly<Record<string, ServerTarEntry['kind']>> = {
  '0': 'file',
  '\0': 'file',
  '5': 'directory',
  '2': 'symlink',
}

/**
 * Reads one block.
 * @returns undefined for a block of zeros: the archive's end
 * @throws WALRX_PROTOCOL for a wrong checksum and an unknown type; WALRX_BACKUP_INCOMPLETE for a name that is not UTF-8
 */
export function parseServerHeader(block: Buffer): ServerTarEntry | undefined {
  if (block.every((byte) => byte === 0)) return undefined
  const sum = block.reduce((total, byte, at) => total + (at >= 148 && at < 156 ? 0x20 : byte), 0)
  if (numberAt(block, 148, 8) !== sum) throw bad('a tar header with a wrong checksum')
  const typeflag = String.fromCharCode(block[156] ?? 0)
  const kind = kinds[typeflag]
  if (!kind) throw bad(`a tar entry of type "${typeflag}"`)
  const prefix = block.toString('latin1', 257, 262) === 'ustar' ? fieldAt(block, 345, 155) : Buffer.alloc(0)
  const own = fieldAt(block, 0, 100)
  const name = prefix.length === 0 ? own : Buffer.concat([prefix, Buffer.from('/'), own])
  if (!isUtf8(name)) throw unusableName(name)
  return {
    name: name.toString('utf8'),
    kind,
    size: kind === 'file' ? numberAt(block, 124, 12) : 0,
    mode: numberAt(block, 100, 8) & 0o7777,
    mtime: timeAt(block, 136, 12),
  }
}

/** A cstring that need not end within its field. */
function fieldAt(block: Buffer, at: number, length: number): Buffer {
  const field = block.subarray(at, at + length)
  const end = field.indexOf(0)
  return end === -1 ? field : field.subarray(0, end)
}

function numberAt(block: Buffer, at: number, length: number): number {
  const value = bigNumberAt(block, at, length)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw bad(`a tar header with the number ${value}`)
  return Number(value)
}

/**
 * A time, as near as the eleven octal digits of a part's header come to it: 1970 to 2242. The server writes one before
 * that as an unsigned number of 64 bits, and one file with such a time is no reason to have no backup.
 */
function timeAt(block: Buffer, at: number, length: number): number {
  const time = BigInt.asIntN(64, bigNumberAt(block, at, length))
  return Number(time < 0n ? 0n : time > BigInt(octalMax) ? octalMax : time)
}

/** Octal text, or base 256 where the first bit is set (read_tar_number in tar.c). */
function bigNumberAt(block: Buffer, at: number, length: number): bigint {
  const field = block.subarray(at, at + length)
  if (((field[0] ?? 0) & 0x80) !== 0) {
    let value = BigInt((field[0] ?? 0) & 0x7f)
    for (const byte of field.subarray(1)) value = value * 256n + BigInt(byte)
    return value
  }
  const text = field
    .toString('latin1')
    .replace(/[\0 ]+$/, '')
    .trim()
  if (text === '') return 0n
  if (!/^[0-7]+$/.test(text)) throw bad(`a tar header with the number "${text}"`)
  return BigInt(`0o${text}`)
}

function bad(what: string): WalrxError {
  return new WalrxError('WALRX_PROTOCOL', `the server sent ${what}`)
}

/** What eleven octal digits hold: 8 GiB less one, as a size. */
const octalMax = 8 ** 11 - 1
/** Bytes of the name field. */
const nameBytesMax = 100

/**
 * The blocks in front of a body: a ustar header, after a PAX header where the name or the size is too long for it
 * (POSIX pax, "ustar Interchange Format"; both WAL-G and WAL-RUS read it).
 */
export function formatHeader(entry: PartTarEntry): Buffer {
  const records: string[] = []
  if (Buffer.byteLength(entry.name) > nameBytesMax) records.push(paxRecord('path', entry.name))
  if (entry.size > octalMax) records.push(paxRecord('size', String(entry.size)))
  const typeflag = entry.kind === 'file' ? '0' : '5'
  if (records.length === 0) return ustarBlock(entry.name, typeflag, entry.size, entry)
  const body = Buffer.from(records.join(''))
  return Buffer.concat([
    ustarBlock('PaxHeader', 'x', body.length, { ...entry, mode: 0o600 }),
    body,
    Buffer.alloc(paddingOf(body.length)),
    ustarBlock(cut(entry.name), typeflag, Math.min(entry.size, octalMax), entry),
  ])
}

/** `<length> <key>=<value>\n`, where the length counts its own digits. */
function paxRecord(key: string, value: string): string {
  const rest = Buffer.byteLength(` ${key}=${value}\n`)
  let length = rest + String(rest).length
  if (rest + String(length).length > length) length += 1
  return `${length} ${key}=${value}\n`
}

/** The beginning of a name, in whole characters: what readers without PAX would see. */
function cut(name: string): string {
  let short = ''
  for (const character of name) {
    if (Buffer.byteLength(short + character) > nameBytesMax) break
    short += character
  }
  return short
}

function ustarBlock(name: string, typeflag: string, size: number, { mode, mtime }: PartTarEntry): Buffer {
  const block = Buffer.alloc(tarBlockBytes)
  block.write(name, 0)
  block.write(`${octal(mode, 7)}\0${octal(0, 7)}\0${octal(0, 7)}\0${octal(size, 11)}\0${octal(mtime, 11)}\0`, 100)
  block.write(typeflag, 156)
  block.write('ustar\x0000', 257)
  block.fill(0x20, 148, 156)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)}\0 `, 148)
  return block
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}

/** What closes a tar. */
export const tarTrailer = Buffer.alloc(2 * tarBlockBytes)
