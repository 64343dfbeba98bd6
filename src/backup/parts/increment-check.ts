/**
 * Holds the increments that have come against the server's own manifest. Nobody can do that later: the stored ones are
 * in WAL-G's format, and the manifest does not list those.
 */
import { WalrxError } from '../../primitives/errors.ts'
import { ManifestReader } from '../../postgres/backup/backup-manifest.ts'
import { incrementedPath } from '../../postgres/relations/relation-file.ts'
import type { ReceivedIncrement } from './increment-entry.ts'

/** See the file's header. */
export class IncrementCheck {
  readonly #reader: ManifestReader
  readonly #left: Set<string>

  /** @param increments what has come, by the server's paths */
  constructor(increments: ReadonlyMap<string, ReceivedIncrement>) {
    const left = new Set(increments.keys())
    this.#left = left
    this.#reader = new ManifestReader("the server's manifest", (path, { algorithm, checksum, size }) => {
      const received = increments.get(path)
      if (!received && incrementedPath(path) !== undefined) {
        throw new WalrxError('WALRX_PROTOCOL', `the server's manifest lists ${path}, which did not come`)
      }
      if (!received) return
      left.delete(path)
      const sum = hexOf(received.crc32c)
      if (algorithm !== 'CRC32C' || (checksum === sum && size === received.size)) return
      throw new WalrxError(
        'WALRX_PROTOCOL',
        `${path} came with ${received.size} bytes and the CRC-32C ${sum}, and the server's manifest says ${size} and ${checksum}`,
        { hint: 'something between the server and here changes bytes: take the backup again' },
      )
    })
  }

  /** The next bytes of the manifest. Throws WALRX_PROTOCOL for an increment that is not as the manifest says. */
  write(bytes: Buffer): void {
    this.#reader.write(bytes)
  }

  /** The manifest is there. Throws WALRX_OBJECT_DAMAGED for one that is cut short, WALRX_PROTOCOL for one that lacks any. */
  end(): void {
    this.#reader.end()
    const [missing] = this.#left
    if (missing === undefined) return
    throw new WalrxError('WALRX_PROTOCOL', `the server's manifest lacks ${missing}, which the server sent`)
  }
}

/** As the server writes its uint32: little-endian, as it lies in memory. */
function hexOf(value: number): string {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes.toString('hex')
}
