/**
 * The server's backup manifest (src/backend/backup/backup_manifest.c): every file of the data directory with size and
 * checksum, and at the end a SHA-256 over all bytes before its own line.
 */
import { createHash } from 'node:crypto'
import { WalrxError } from '../../primitives/errors.ts'
import { JsonMembers } from '../../primitives/json/json-members.ts'

/** The manifest's entry of a file. */
export interface ManifestFile {
  readonly size: number
  /** `CRC32C`, `SHA256` …; undefined where the manifest has no checksums. */
  readonly algorithm: string | undefined
  /** Lower-case hex, as the server writes it. */
  readonly checksum: string | undefined
}

/** Enough bytes for the last line of a manifest: `"Manifest-Checksum": "<64 hex digits>"}` and a line break. */
const tailBytes = 256

/**
 * Reads a manifest.
 * @param object names it in errors
 * @returns files by path, relative to the data directory, without a leading slash
 * @throws WALRX_OBJECT_DAMAGED when its own checksum is wrong, or it is not a manifest
 */
export async function readManifest(
  source: AsyncIterable<Uint8Array>,
  object: string,
): Promise<ReadonlyMap<string, ManifestFile>> {
  const files = new Map<string, ManifestFile>()
  const reader = new ManifestReader(object, (path, file) => files.set(path, file))
  for await (const chunk of source) reader.write(chunk)
  reader.end()
  return files
}

/** Reads a manifest block by block. It keeps only the last line. */
export class ManifestReader {
  readonly #object: string
  readonly #members: JsonMembers
  readonly #hash = createHash('sha256')
  #tail: Buffer = Buffer.alloc(0)
  #said: unknown

  /**
   * @param object names it in errors
   * @param onFile called for each file, in the manifest's order
   */
  constructor(object: string, onFile: (path: string, file: ManifestFile) => void) {
    this.#object = object
    this.#members = new JsonMembers(({ key, name, value }) => {
      if (name === 'Manifest-Checksum') this.#said = value
      else if (name === 'Files' && key !== undefined) onFile(...readFile(value, object))
    })
  }

  /**
   * The next bytes; they may be overwritten afterwards.
   * @throws WALRX_OBJECT_DAMAGED for invalid JSON; what `onFile` threw
   */
  write(chunk: Uint8Array): void {
    this.#explained(() => this.#members.write(chunk))
    const all = Buffer.concat([this.#tail, chunk])
    const sure = Math.max(0, all.length - tailBytes)
    this.#hash.update(all.subarray(0, sure))
    this.#tail = Buffer.from(all.subarray(sure))
  }

  /** Call this after the last bytes. Throws WALRX_OBJECT_DAMAGED when the manifest's own checksum is wrong. */
  end(): void {
    const said = this.#said
    const tail = this.#tail
    const lastLine = tail.lastIndexOf('\n', tail.length - 2)
    if (lastLine === -1 || typeof said !== 'string')
      throw damaged(this.#object, 'is incomplete: it has no Manifest-Checksum at its end')
    this.#explained(() => this.#members.end())
    const sum = this.#hash.update(tail.subarray(0, lastLine + 1)).digest('hex')
    if (sum !== said.toLowerCase()) {
      throw damaged(this.#object, `has SHA-256 ${sum}, but its Manifest-Checksum is ${said}`)
    }
  }

  #explained(step: () => void): void {
    try {
      step()
    } catch (error) {
      if (error instanceof WalrxError) throw error
      throw damaged(this.#object, `is not valid JSON: ${(error as Error).message}`)
    }
  }
}

function readFile(value: unknown, object: string): [path: string, file: ManifestFile] {
  const entry = (value ?? {}) as Readonly<Record<string, unknown>>
  const { Size: size, Path: path, 'Encoded-Path': encoded } = entry
  const name = typeof path === 'string' ? path : typeof encoded === 'string' ? decodePath(encoded) : undefined
  if (name === undefined || typeof size !== 'number') throw damaged(object, 'lists a file without path or size')
  const { Checksum: checksum, 'Checksum-Algorithm': algorithm } = entry
  const file = {
    size,
    algorithm: typeof algorithm === 'string' ? algorithm : undefined,
    checksum: typeof checksum === 'string' ? checksum.toLowerCase() : undefined,
  }
  return [name, file]
}

/** Decodes the hex of a path that is not UTF-8. */
function decodePath(hex: string): string {
  return Buffer.from(hex, 'hex').toString('utf8')
}

function damaged(object: string, what: string): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', `${object} ${what}`)
}
