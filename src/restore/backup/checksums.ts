/** Checksums of files as a backup manifest has them (src/common/checksum_helper.c). */
import { createHash, type Hash } from 'node:crypto'
import { crc32c } from '@node-rs/crc32'
import { WalrxError } from '../../primitives/errors.ts'

/** A checksum that is being computed. */
export interface Checksum {
  update(bytes: Uint8Array): void
  /** Lower-case hex, as the manifest writes it. */
  digest(): string
}

/** Opens a checksum by the manifest's name of it. Throws WALRX_OBJECT_DAMAGED for one that no server has. */
export function openChecksum(algorithm: string, object: string): Checksum {
  if (algorithm === 'CRC32C') return new Crc32c()
  if (/^SHA(224|256|384|512)$/.test(algorithm)) return new Sha(createHash(algorithm.toLowerCase()))
  throw new WalrxError('WALRX_OBJECT_DAMAGED', `${object} has checksums of an unknown kind, "${algorithm}"`)
}

class Crc32c implements Checksum {
  #value = 0

  update(bytes: Uint8Array): void {
    this.#value = crc32c(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), this.#value)
  }

  digest(): string {
    // The server writes its uint32 as it lies in memory: little-endian.
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
