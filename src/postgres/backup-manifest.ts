/**
 * The server's backup manifest (src/backend/backup/backup_manifest.c): every file of the data directory with size and
 * checksum, and at the end a SHA-256 over all bytes before its own line.
 */
import { createHash } from 'node:crypto'
import { WalrxError } from '../primitives/errors.ts'

/** What the manifest says of a file. */
export interface ManifestFile {
  readonly size: number
  /** `CRC32C`, `SHA256` …; undefined where the manifest has no checksums. */
  readonly algorithm: string | undefined
  /** Lower-case hex of the bytes as the server writes them. */
  readonly checksum: string | undefined
}

/** More than the last line of a manifest: `"Manifest-Checksum": "<64 hex digits>"}` and a line break. */
const tailBytes = 256

/**
 * Reads a manifest.
 * @param object names it in errors
 * @returns files by path, relative to the data directory, without a leading slash
 * @throws WALRX_OBJECT_DAMAGED when its own checksum is wrong, or it is no manifest
 */
export async function readManifest(
  source: AsyncIterable<Uint8Array>,
  object: string,
): Promise<ReadonlyMap<string, ManifestFile>> {
  const files = new Map<string, ManifestFile>()
  // Writers of backups need it not.
  const { default: JSONParser } = await import('@streamparser/json/jsonparser.js')
  const parser = new JSONParser({ paths: ['$.Files.*', '$.Manifest-Checksum'], keepStack: false })
  let said: unknown
  parser.onValue = ({ key, value }) => {
    if (key === 'Manifest-Checksum') said = value
    else addFile(files, value as Readonly<Record<string, unknown>>, object)
  }
  let failure: Error | undefined
  parser.onError = (error) => {
    failure ??= error
  }
  const hash = createHash('sha256')
  let tail = Buffer.alloc(0)
  for await (const chunk of source) {
    parser.write(chunk)
    if (failure) throw damaged(object, `is no JSON: ${failure.message}`)
    const all = Buffer.concat([tail, chunk])
    const sure = Math.max(0, all.length - tailBytes)
    hash.update(all.subarray(0, sure))
    tail = Buffer.from(all.subarray(sure))
  }
  const lastLine = tail.lastIndexOf('\n', tail.length - 2)
  if (lastLine === -1 || typeof said !== 'string') throw damaged(object, 'is cut short')
  const sum = hash.update(tail.subarray(0, lastLine + 1)).digest('hex')
  if (sum !== said.toLowerCase()) throw damaged(object, `has the SHA-256 ${sum}, and says ${said} of itself`)
  return files
}

function addFile(files: Map<string, ManifestFile>, entry: Readonly<Record<string, unknown>>, object: string): void {
  const { Size: size, Path: path, 'Encoded-Path': encoded } = entry
  const name = typeof path === 'string' ? path : typeof encoded === 'string' ? decodePath(encoded) : undefined
  if (name === undefined || typeof size !== 'number') throw damaged(object, 'lists a file without path or size')
  const { Checksum: checksum, 'Checksum-Algorithm': algorithm } = entry
  files.set(name, {
    size,
    algorithm: typeof algorithm === 'string' ? algorithm : undefined,
    checksum: typeof checksum === 'string' ? checksum.toLowerCase() : undefined,
  })
}

/** Hex of a path that is no UTF-8. */
function decodePath(hex: string): string {
  return Buffer.from(hex, 'hex').toString('utf8')
}

function damaged(object: string, what: string): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', `${object} ${what}`)
}
