/** Objects as they are stored: what walrx.json remembers of each, so that damage to any of them is found and named. */
import { crc32c } from '@node-rs/crc32'

/** One stored object of a backup. */
export interface StoredObject {
  /** Key below the backup's folder: `tar_partitions/part_001.tar.zst`. */
  readonly name: string
  /** Bytes as stored. */
  readonly size: number
  /** CRC-32C of these bytes. */
  readonly crc32c: number
}

/** Size and checksum of bytes that go by. */
export class ObjectSum {
  size = 0
  crc32c = 0

  add(bytes: Uint8Array): void {
    this.size += bytes.length
    this.crc32c = crc32c(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), this.crc32c)
  }
}
