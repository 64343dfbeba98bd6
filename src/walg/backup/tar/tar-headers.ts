/**
 * Headers of a tar as any tool writes them, block by block: ustar, GNU long names, PAX, sizes in base 256 (POSIX pax, "ustar
 * Interchange Format"; GNU tar, "Basic Tar Format"). A library would read them within a stream of its own, which takes a
 * tenth of the time of a restore and memory that cannot be freed at once.
 */

/** Bytes of a block. */
export const blockBytes = 512

/** What a block says, and what the headers before it say of the same entry. */
export interface TarHeader {
  readonly name: string
  readonly kind: 'file' | 'directory' | 'other'
  /** Bytes of the body that follows, without padding. */
  readonly size: number
  readonly mode: number
}

/** Texts before a header, in bodies of their own. */
type LongKind = 'pax' | 'pax of all' | 'long name' | 'long link'

const longKinds: Readonly<Record<string, LongKind>> = {
  x: 'pax',
  g: 'pax of all',
  L: 'long name',
  N: 'long name',
  K: 'long link',
}

/** The most bytes of such a text. */
const longBytesMax = 4 * 1024 * 1024

/** Reads the headers of one tar in their order. All errors are without its name. */
export class TarHeaders {
  #pax: ReadonlyMap<string, string> = new Map()
  #paxOfAll: ReadonlyMap<string, string> = new Map()
  #longName: string | undefined
  #long: LongKind | undefined

  /**
   * Reads a block.
   * @returns the header of an entry; the bytes of a text that is to be passed to {@link text}; undefined for zeros
   * @throws Error for what is no header
   */
  block(block: Buffer): TarHeader | number | undefined {
    const sum = checksumOf(block)
    if (sum === emptySum) return undefined
    if (sum !== numberAt(block, 148, 8)) throw new Error('a header has a wrong checksum')
    const isUstar = block.toString('latin1', 257, 263) === 'ustar\0'
    if (!isUstar && block.toString('latin1', 257, 265) !== 'ustar  \0')
      throw new Error('a header is of no known format')
    const flag = block[156] === 0 ? '0' : String.fromCharCode(block[156] ?? 0)
    const size = numberAt(block, 124, 12)
    this.#long = longKinds[flag]
    if (!this.#long) return this.#entry(block, isUstar, flag, size)
    if (size > longBytesMax) throw new Error(`a name or a PAX header has ${size} bytes`)
    return size
  }

  /**
   * What {@link block} will return of a block that comes after the present body, where it is the header of an entry without
   * texts before it; undefined for all others.
   */
  peek(block: Buffer): TarHeader | undefined {
    const flag = block[156] ?? 0
    if (longKinds[String.fromCharCode(flag)]) return undefined
    try {
      const header = this.block(block)
      return typeof header === 'object' ? header : undefined
    } catch {
      // It is thrown again when the block is read.
      return undefined
    }
  }

  /** Takes a text that comes before a header. */
  text(text: Buffer): void {
    const long = this.#long
    if (long === 'pax') this.#pax = paxOf(text)
    else if (long === 'pax of all') this.#paxOfAll = paxOf(text)
    else if (long === 'long name') this.#longName = textAt(text, 0, text.length)
  }

  #entry(block: Buffer, isUstar: boolean, flag: string, ownSize: number): TarHeader {
    const pax = new Map([...this.#paxOfAll, ...this.#pax])
    // As tar-stream and Go's archive/tar: what PAX says of one entry comes before all else.
    const name = pax.get('path') ?? this.#longName ?? nameOf(block, isUstar)
    const size = pax.has('size') ? Number(pax.get('size')) : ownSize
    this.#pax = new Map()
    this.#longName = undefined
    if (!Number.isSafeInteger(size) || size < 0) throw new Error(`a header has the size ${size}`)
    const mode = numberAt(block, 100, 8)
    const isDirectory = flag === '5' || (flag === '0' && name.endsWith('/'))
    if (isDirectory) return { name, kind: 'directory', size: 0, mode }
    return { name, kind: flag === '0' || flag === '7' ? 'file' : 'other', size, mode }
  }
}

/** Of a block of zeros: the checksum counts as spaces. */
const emptySum = 8 * 0x20

function checksumOf(block: Buffer): number {
  let sum = emptySum
  for (let at = 0; at < 148; at++) sum += block[at] ?? 0
  for (let at = 156; at < blockBytes; at++) sum += block[at] ?? 0
  return sum
}

function nameOf(block: Buffer, isUstar: boolean): string {
  const own = textAt(block, 0, 100)
  const prefix = isUstar ? textAt(block, 345, 155) : ''
  return prefix === '' ? own : `${prefix}/${own}`
}

/** A cstring that need not end within its field. */
function textAt(block: Buffer, at: number, length: number): string {
  const end = block.subarray(at, at + length).indexOf(0)
  return block.toString('utf8', at, end === -1 ? at + length : at + end)
}

/** Octal text, or base 256 where the first byte says so. Throws for other text. */
function numberAt(block: Buffer, at: number, length: number): number {
  const first = block[at] ?? 0
  if ((first & 0x80) !== 0) {
    if (first !== 0x80) throw new Error('a header has a negative number')
    let value = 0
    for (let index = at + 1; index < at + length; index++) value = value * 256 + (block[index] ?? 0)
    return value
  }
  // Old tools begin a number with spaces, and it ends at a space or a zero.
  const digits =
    block
      .toString('latin1', at, at + length)
      .replace(/^[\0 ]+/, '')
      .split(/[\0 ]/, 1)[0] ?? ''
  if (digits === '') return 0
  if (!/^[0-7]+$/.test(digits)) throw new Error(`a header has the number "${digits}"`)
  return Number.parseInt(digits, 8)
}

/** Records `<length> <key>=<value>\n`, where the length counts its own digits. What follows a damaged one is left out. */
function paxOf(text: Buffer): Map<string, string> {
  const records = new Map<string, string>()
  for (let at = 0; at < text.length;) {
    const space = text.indexOf(0x20, at)
    const length = Number.parseInt(text.toString('latin1', at, space), 10)
    if (space < 0 || !(length > 0)) break
    const record = text.toString('utf8', space + 1, at + length - 1)
    const equals = record.indexOf('=')
    if (equals < 0) break
    records.set(record.slice(0, equals), record.slice(equals + 1))
    at += length
  }
  return records
}
