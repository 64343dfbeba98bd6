import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { parseServerHeader } from '../../src/backup/parts/tar-header.ts'
import { hasCode, type WalrxError } from '../../src/primitives/errors.ts'
import { serverHeader, setChecksum } from './parts/tars.ts'

const gigabyte = 1024 ** 3

/** Well-formed text of 1 to `bytesMax` bytes, without the zero that ends a name. */
function nameUpTo(bytesMax: number): fc.Arbitrary<string> {
  return fc.string({ unit: 'binary', minLength: 1, maxLength: bytesMax }).map((text) => {
    let name = ''
    for (const letter of text.replaceAll('\0', '0')) if (Buffer.byteLength(name + letter) <= bytesMax) name += letter
    return name
  })
}

/** What parsing throws, which must be an error of the server's doing. */
function refusal(block: Buffer): WalrxError {
  try {
    parseServerHeader(block)
  } catch (error) {
    if (hasCode(error, 'WALRX_PROTOCOL') || hasCode(error, 'WALRX_BACKUP_INCOMPLETE')) return error
    throw error
  }
  throw new Error('it was not refused')
}

describe("a server's header", () => {
  test('is read as the server means it: name, kind, mode, time, and a size in octal or base 256', () => {
    const size = fc.oneof(
      fc.integer({ min: 0, max: 3 * gigabyte }),
      fc.integer({ min: 8 * gigabyte - 2, max: 8 * gigabyte + 2 }),
      fc.maxSafeNat(),
    )
    const mode = fc.integer({ min: 0, max: 0o7777 })
    const entry = fc.record({ name: nameUpTo(99), size, mode, mtime: fc.integer({ min: 0, max: 8 ** 11 - 1 }) })
    fc.assert(
      fc.property(entry, (each) => {
        assert.deepEqual(parseServerHeader(serverHeader({ ...each, kind: 'file' })), { ...each, kind: 'file' })
      }),
      { numRuns: 300 },
    )
  })

  test('of a directory or a link ends in a slash and has no body', () => {
    for (const kind of ['directory', 'symlink'] as const) {
      // With 99 bytes of name the slash is the hundredth, and no zero follows.
      for (const name of ['base/5', 'ü'.repeat(49) + 'a']) {
        const block = serverHeader({ name, kind, size: 12345, linkTarget: '/mnt/fast', mode: 0o750 })
        assert.deepEqual(parseServerHeader(block), {
          name: `${name}/`,
          kind,
          size: 0,
          mode: 0o750,
          mtime: 1_700_000_000,
        })
      }
    }
  })

  test('may have a name of exactly 100 bytes, which no zero ends', () => {
    for (const name of ['a'.repeat(100), 'ü'.repeat(50), '漢'.repeat(33) + '\\']) {
      assert.equal(Buffer.byteLength(name), 100)
      assert.equal(parseServerHeader(serverHeader({ name, kind: 'file' }))?.name, name)
    }
  })

  test('keeps a byte order mark, a backslash and spaces: they are part of the name', () => {
    for (const name of ['\ufeffx', 'a\\b', ' ', '  x  ', '-rf', 'a\nb', '\x01']) {
      assert.equal(parseServerHeader(serverHeader({ name, kind: 'file' }))?.name, name)
    }
  })

  test('of a file of before 1970 or after 2242 gets the nearest time that a part can hold', () => {
    const timeOf = (mtime: number) => parseServerHeader(serverHeader({ name: 'x', kind: 'file', mtime }))?.mtime
    assert.equal(timeOf(-1), 0)
    assert.equal(timeOf(-(2 ** 40)), 0)
    assert.equal(timeOf(0), 0)
    assert.equal(timeOf(8 ** 11 - 1), 8 ** 11 - 1)
    assert.equal(timeOf(8 ** 11), 8 ** 11 - 1)
    assert.equal(timeOf(2 ** 50), 8 ** 11 - 1)
  })

  test('is the end when it is all zeros', () => {
    assert.equal(parseServerHeader(Buffer.alloc(512)), undefined)
    const almost = Buffer.alloc(512)
    almost[511] = 1
    assert.match(refusal(almost).message, /wrong checksum/)
  })

  test('with any bit flipped is refused or, in the digits of the checksum alone, still reads the same', () => {
    const whole = serverHeader({ name: 'base/5/16384', kind: 'file', size: 8192 })
    const meant = parseServerHeader(whole)
    for (let bit = 0; bit < 512 * 8; bit++) {
      const block = Buffer.from(whole)
      block[bit >> 3] = (block[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      // A space after the number that became a zero, or the like.
      if (bit >> 3 >= 148 && bit >> 3 < 156) {
        try {
          assert.deepEqual(parseServerHeader(block), meant)
        } catch (error) {
          assert.ok(hasCode(error, 'WALRX_PROTOCOL'), String(error))
        }
      } else assert.match(refusal(block).message, /^the server sent a tar header with a wrong checksum$/, `bit ${bit}`)
    }
  })

  test('with a name that is no UTF-8 is refused in a line that shows the name and what to do', () => {
    for (const name of [Buffer.from('caf\xe9', 'latin1'), Buffer.from([0x66, 0xc3]), Buffer.from([0xed, 0xa0, 0x80])]) {
      const error = refusal(serverHeader({ name, kind: 'file' }))
      const escapes = [...name].map((byte) => (byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16)}`))
      const shown = `$'${escapes.join('')}'`
      assert.equal(error.message, `the data directory has a file with a name that is not UTF-8: ${shown}`)
      assert.match(error.hint ?? '', /rename it, or move it out of the data directory/)
      assert.doesNotMatch(error.message, /\n/)
    }
  })

  test('of a type that no server sends is refused', () => {
    for (const type of ['1', '3', '4', '6', '7', 'x', 'g', 'L', 'S']) {
      const block = serverHeader({ name: 'x', kind: 'file' })
      block.write(type, 156)
      assert.equal(refusal(setChecksum(block)).message, `the server sent a tar entry of type "${type}"`)
    }
  })

  test('with a number that is none, or beyond what can be counted, is refused', () => {
    const withSize = (bytes: Buffer) => {
      const block = serverHeader({ name: 'x', kind: 'file' })
      bytes.copy(block, 124)
      return setChecksum(block)
    }
    assert.match(refusal(withSize(Buffer.from('00000000089 '))).message, /the number "00000000089"/)
    assert.match(refusal(withSize(Buffer.from('-0000000001 '))).message, /the number "-0000000001"/)
    assert.match(refusal(withSize(Buffer.from('0x000000012 '))).message, /the number "0x000000012"/)
    const huge = Buffer.alloc(12, 0xff)
    assert.match(refusal(withSize(huge)).message, /^the server sent a tar header with the number \d{28,}$/)
    const justTooMuch = Buffer.from('800000000020000000000000', 'hex')
    assert.equal(
      refusal(withSize(justTooMuch)).message,
      'the server sent a tar header with the number 9007199254740992',
    )
  })

  test('of a tar of before ustar has no prefix, and one with a prefix has it before a slash', () => {
    const block = serverHeader({ name: 'x', kind: 'file' })
    block.write('base/5', 345)
    assert.equal(parseServerHeader(setChecksum(block))?.name, 'base/5/x')
    block.fill(0, 257, 265)
    assert.equal(parseServerHeader(setChecksum(block))?.name, 'x')
  })
})
