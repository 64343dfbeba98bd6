/**
 * `walrx_005/verified/<name>.json`: what the last `walrx backup-verify` of a backup found. It says something of the backup
 * that it names only while that is the same: a backup of the same name, or a parent that was taken again, has another
 * start.
 *
 *     {"version":1,"verified_at":"2026-03-01T12:00:00Z","walrx_version":"0.1.0","result":"whole","bytes":31000000,
 *      "backups":[{"name":"base_…","start_lsn":33554472,"start_time":"2026-03-01T03:00:00.12Z"}]}
 */
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { formatJson, jsonBigint, type JsonValue, parseJson } from '../../primitives/json/json.ts'
import { toLsn } from '../../postgres/lsn.ts'
import type { Storage, StorageCallOptions } from '../../storage/storage.ts'
import { verifiedFolder } from '../names.ts'
import { readDocument } from '../stored/stored-reader.ts'
import { putDocument } from '../stored/stored-writer.ts'
import { parseBackupTime } from './backup-time.ts'
import type { Sentinel } from './sentinel.ts'

/** Which backup was read. */
export interface VerifiedBackup extends Pick<Sentinel, 'startLsn' | 'startTime'> {
  readonly name: string
}

/** What the object says. */
export interface Verification {
  /** RFC 3339, by the clock of the machine that read it. */
  readonly verifiedAt: string
  readonly walrxVersion: string
  /** `damaged` where a part, a document or a file is not as it was written, or is missing. */
  readonly result: 'whole' | 'damaged'
  /** What is damaged; undefined for a whole one. */
  readonly problem: string | undefined
  /** Bytes of all files that were read; 0 for a damaged one. */
  readonly bytes: number
  /** The full backup first, the one that was asked for last. */
  readonly backups: readonly VerifiedBackup[]
}

/** Key of the record of a backup. */
export function verificationKey(name: string): string {
  return `${verifiedFolder}${name}.json`
}

/** Name of the backup that a record is of; undefined for every other key. */
export function nameOfVerification(key: string): string | undefined {
  return key.startsWith(verifiedFolder) && key.endsWith('.json')
    ? key.slice(verifiedFolder.length, -'.json'.length)
    : undefined
}

/** Writes the record of the last of its backups, in place of an older one. Throws what the storage says. */
export async function putVerification(
  storage: Storage,
  { backups, bytes, problem, result, verifiedAt, walrxVersion }: Verification,
  options?: StorageCallOptions,
): Promise<void> {
  const document = {
    version: 1,
    verified_at: verifiedAt,
    walrx_version: walrxVersion,
    result,
    ...(problem !== undefined && { problem }),
    bytes,
    backups: backups.map(({ name, startLsn, startTime }) => ({
      name,
      start_lsn: startLsn ?? null,
      start_time: startTime ?? null,
    })),
  }
  const name = backups.at(-1)?.name ?? ''
  await putDocument(storage, verificationKey(name), Buffer.from(`${formatJson(document, 2)}\n`), options)
}

/**
 * The record of a backup; undefined where there is none. Who relies on it checks with {@link isVerificationOf}.
 * @throws WALRX_OBJECT_DAMAGED, and what the storage says
 */
export async function readVerification(
  storage: Storage,
  name: string,
  options?: StorageCallOptions,
): Promise<Verification | undefined> {
  const key = verificationKey(name)
  let text: string
  try {
    text = (await readDocument(storage, key, options)).toString('utf8')
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
    throw error
  }
  try {
    return parseVerification(text)
  } catch (error) {
    const why = (error as Error).message
    throw new WalrxError('WALRX_OBJECT_DAMAGED', `${storage.location}/${key} cannot be read: ${why}`, { cause: error })
  }
}

function parseVerification(text: string): Verification {
  const value = parseJson(text) as { readonly [key: string]: JsonValue }
  if (value['version'] !== 1) throw new SyntaxError(`it has version ${formatJson(value['version'] ?? null)}, not 1`)
  const { backups, bytes, problem, result, verified_at: verifiedAt, walrx_version: walrxVersion } = value
  const isRight =
    (result === 'whole' || result === 'damaged') &&
    typeof verifiedAt === 'string' &&
    parseBackupTime(verifiedAt) !== undefined &&
    typeof walrxVersion === 'string' &&
    typeof bytes === 'number' &&
    Array.isArray(backups)
  if (!isRight) throw new SyntaxError('its fields are wrong')
  return {
    verifiedAt,
    walrxVersion,
    result,
    problem: typeof problem === 'string' ? problem : undefined,
    bytes,
    backups: (backups as readonly JsonValue[]).map(readBackup),
  }
}

function readBackup(value: JsonValue): VerifiedBackup {
  const { name, start_lsn: lsn, start_time: startTime } = (value ?? {}) as { readonly [key: string]: JsonValue }
  const startLsn = jsonBigint(lsn)
  if (typeof name !== 'string') throw new SyntaxError('it names no backup')
  return {
    name,
    startLsn: startLsn === undefined ? undefined : toLsn(startLsn),
    startTime: typeof startTime === 'string' ? startTime : undefined,
  }
}

/**
 * True where a record is of these very backups.
 * @param chain all that is needed to restore the backup, as the sentinels say now: the full one first
 */
export function isVerificationOf({ backups }: Verification, chain: readonly VerifiedBackup[]): boolean {
  return (
    backups.length === chain.length &&
    chain.every(({ name, startLsn, startTime }, index) => {
      const verified = backups[index]
      return verified?.name === name && verified.startLsn === startLsn && verified.startTime === startTime
    })
  )
}
