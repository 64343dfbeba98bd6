/**
 * Finds the end of a zstd frame (RFC 8878, section 3.1). Node's decoder does not report it: it stops silently after the
 * first frame, takes a skippable frame for an empty object, and before Node 24 accepts a truncated frame as complete.
 */
import { WalrxError } from '../../primitives/errors.ts'

/** Bytes of an empty frame: magic, descriptor, content size, one empty last block, checksum. */
export const emptyFrameBytes = 13

const magic = 0xfd2fb528
const skippableMagicMin = 0x184d2a50
const skippableMagicMax = 0x184d2a5f
const checksumFlag = 0x04
const singleSegmentFlag = 0x20
const reservedFlag = 0x08
const dictionaryIdBytes = [0, 1, 2, 4] as const
const contentSizeBytes = [0, 2, 4, 8] as const

/** True for the first bytes of a frame, skippable or not. */
export function beginsZstdFrame(head: Buffer): boolean {
  const found = head.length < 4 ? 0 : head.readUInt32LE(0)
  return found === magic || (found >= skippableMagicMin && found <= skippableMagicMax)
}

type Step = 'magic' | 'skippable' | 'descriptor' | 'block' | 'checksum' | 'end'

/** Follows one frame, skippable or not, through chunks of any size, only by its headers. */
export class ZstdFrameScanner {
  /** Bytes of the next field, collected across chunks. */
  readonly #field = Buffer.alloc(4)
  #fieldLength = 0
  #fieldNeeds = 4
  /** Bytes to skip before that field. */
  #skip = 0
  #step: Step = 'magic'
  #descriptor = 0
  #isSkippable = false

  /** True once the frame's last byte has been seen. */
  get isComplete(): boolean {
    return this.#step === 'end' && this.#skip === 0
  }

  /** True for a skippable frame: known from its fourth byte on. */
  get isSkippable(): boolean {
    return this.#isSkippable
  }

  /**
   * Reads the next bytes of the object.
   * @returns how many of them belong to this frame: all of them unless the frame ends here
   * @throws WALRX_OBJECT_DAMAGED for bytes that are not a zstd frame
   */
  scan(chunk: Uint8Array): number {
    let offset = 0
    while (!this.isComplete && offset < chunk.length) {
      const passed = Math.min(this.#skip, chunk.length - offset)
      this.#skip -= passed
      offset += passed
      if (this.#step === 'end') continue
      while (this.#skip === 0 && offset < chunk.length && this.#fieldLength < this.#fieldNeeds) {
        this.#field[this.#fieldLength++] = chunk[offset++] ?? 0
      }
      if (this.#skip === 0 && this.#fieldLength === this.#fieldNeeds) this.#advance()
    }
    return offset
  }

  /** Acts on a complete field. */
  #advance(): void {
    const field = this.#field
    switch (this.#step) {
      case 'magic':
        return this.#onMagic(field.readUInt32LE(0))
      case 'skippable':
        return this.#expect('end', 0, field.readUInt32LE(0))
      case 'descriptor':
        return this.#onDescriptor(field.readUInt8(0))
      case 'block':
        return this.#onBlock(field.readUIntLE(0, 3))
      case 'checksum':
        return this.#expect('end', 0)
      case 'end':
        return
      default:
        this.#step satisfies never
    }
  }

  #expect(step: Step, fieldNeeds: number, skip = 0): void {
    this.#step = step
    this.#fieldLength = 0
    this.#fieldNeeds = fieldNeeds
    this.#skip = skip
  }

  #onMagic(value: number): void {
    if (value >= skippableMagicMin && value <= skippableMagicMax) {
      this.#isSkippable = true
      this.#expect('skippable', 4)
    } else if (value === magic) {
      this.#expect('descriptor', 1)
    } else {
      const hex = value.toString(16).padStart(8, '0')
      throw new WalrxError(
        'WALRX_OBJECT_DAMAGED',
        `not a zstd frame: it begins with 0x${hex} instead of 0x${magic.toString(16)}`,
      )
    }
  }

  #onDescriptor(descriptor: number): void {
    if ((descriptor & reservedFlag) !== 0) {
      throw new WalrxError('WALRX_OBJECT_DAMAGED', `a zstd frame has the reserved bit set (descriptor ${descriptor})`)
    }
    this.#descriptor = descriptor
    const isSingleSegment = (descriptor & singleSegmentFlag) !== 0
    const sizeCode = descriptor >> 6
    // With a single segment the window byte is missing, and the smallest content size has one byte instead of none.
    const sizeBytes = isSingleSegment && sizeCode === 0 ? 1 : (contentSizeBytes[sizeCode] ?? 0)
    const header = (isSingleSegment ? 0 : 1) + (dictionaryIdBytes[descriptor & 3] ?? 0) + sizeBytes
    this.#expect('block', 3, header)
  }

  #onBlock(header: number): void {
    const isLast = (header & 1) !== 0
    const type = (header >> 1) & 3
    if (type === 3) throw new WalrxError('WALRX_OBJECT_DAMAGED', 'a zstd block has the reserved type 3')
    // A run of one byte (type 1) stores only that byte.
    const stored = type === 1 ? 1 : header >> 3
    if (!isLast) this.#expect('block', 3, stored)
    else if ((this.#descriptor & checksumFlag) !== 0) this.#expect('checksum', 4, stored)
    else this.#expect('end', 0, stored)
  }
}
