/** Checksums of files as in a backup manifest (src/common/checksum_helper.c). */
import { createHash, type Hash } from 'node:crypto'
import { crc32c } from '@node-rs/crc32'
import { WalrxError } from '../../../primitives/errors.ts'

/** A checksum that is being computed. */
export interface Checksum {
  update(bytes: Uint8Array): void
  /** Lower-case hex, as the manifest writes it. */
  digest(): string
}

/** Opens a checksum by its name in the manifest. Throws WALRX_OBJECT_DAMAGED for an algorithm that no server uses. */
export function openChecksum(algorithm: string, object: string): Checksum {
  if (algorithm === 'CRC32C') return new Crc32c()
  if (/^SHA(224|256|384|512)$/.test(algorithm)) return new Sha(createHash(algorithm.toLowerCase()))
  throw new WalrxError('WALRX_OBJECT_DAMAGED', `${object} has checksums of an unknown algorithm, "${algorithm}"`)
}

class Crc32c implements Checksum {
  #value = 0

  update(bytes: Uint8Array): void {
    this.#value = crc32c(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), this.#value)
  }

  digest(): string {
    // The server writes the bytes of its uint32 in memory order: little-endian.
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(this.#value >>> 0)
    return bytes.toString('hex')
  }
}

class Sha implements Checksum {
  readonly #hash: Hash

  constructor(hash: Hash) {
    this.#hash = hash
  }

  update(bytes: Uint8Array): void {
    this.#hash.update(bytes)
  }

  digest(): string {
    return this.#hash.digest('hex')
  }
}
