/**
 * What an earlier call has found out about the archive, so that the next one need not: of which cluster it is, that it can be
 * written to, that its conditional puts work, and that the keys fit. It lies beside the WAL, in `pg_wal/.walrx/push.json`: an archive_command
 * starts a process for every file.
 *
 * It counts while the marker of the archive is the same object, and for a day: an archive that was emptied and begun again
 * may have another key, or a key at all.
 *
 * Of the key it holds a text that was encrypted with it. A key that opens it is the same one; nothing of the key itself is
 * stored. What cannot be read, or is of another archive, counts for nothing.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, rename, unlink, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { BeginningTest, Keyring } from '../crypto/keyring.ts'
import { HeadedSource } from '../primitives/headed-source.ts'
import { readRegular } from '../primitives/regular-file.ts'
import type { ObjectInfo, StorageTraits } from '../storage/storage.ts'
import type { BoundCluster } from '../walg/wal/system-binding.ts'

/** Where it is kept for a WAL file; undefined for one that lies in no pg_wal. */
export function knowledgePath(walFile: string): string | undefined {
  const folder = dirname(walFile)
  return basename(folder) === 'pg_wal' ? join(folder, '.walrx', 'push.json') : undefined
}

/** An archive, and the keys that are set for it. */
export interface ArchiveInUse {
  /** Its location and endpoint. */
  readonly identity: string
  readonly keyring: Keyring | undefined
  /** The marker of the archive; undefined where it has none: then nothing is known. */
  readonly marker: Pick<ObjectInfo, 'lastModifiedMs' | 'md5' | 'size'> | undefined
  /** Milliseconds since 1970. */
  readonly nowMs: number
}

/** What is known of an archive. */
export interface Knowledge {
  /** The one that its marker names. */
  readonly cluster: BoundCluster
  readonly traits: StorageTraits
}

/** How long what was found out counts. */
const validMs = 24 * 60 * 60 * 1000

function stateOf({ marker }: ArchiveInUse): string | undefined {
  return marker && [marker.lastModifiedMs, marker.size, marker.md5 ?? ''].join(' ')
}

/** What an earlier call has found out of the archive, with these keys; undefined for nothing. */
export async function readKnown(path: string, archive: ArchiveInUse): Promise<Knowledge | undefined> {
  const { identity, keyring, nowMs } = archive
  const state = stateOf(archive)
  if (state === undefined) return undefined
  try {
    const { isListingProven, sealed, segmentSize, systemId, ...found } = JSON.parse(
      (await readRegular(path)).toString(),
    ) as Record<string, unknown>
    if (found['archive'] !== identity || (sealed === undefined) !== (keyring === undefined)) return undefined
    const ageMs = nowMs - Number(found['checkedMs'])
    if (found['marker'] !== state || !(ageMs >= 0 && ageMs < validMs)) return undefined
    if (keyring && !(await isSealedBy(keyring, Buffer.from(String(sealed), 'base64')))) return undefined
    return {
      cluster: { systemId: BigInt(String(systemId)), segmentSize: Number(segmentSize) },
      traits: { conditionalPut: true, ...(isListingProven === true && { isListingProven }) },
    }
  } catch {
    return undefined
  }
}

/** Notes that this archive is in order, with these keys, if it is. Throws what the system says. */
export async function noteKnown(path: string, archive: ArchiveInUse, { cluster, traits }: Knowledge): Promise<void> {
  const marker = stateOf(archive)
  if (!traits.conditionalPut || traits.listingProblem !== undefined || marker === undefined) return
  const { identity, keyring, nowMs: checkedMs } = archive
  const sealed = keyring && { sealed: (await seal(keyring)).toString('base64') }
  const { segmentSize } = cluster
  const system = { systemId: String(cluster.systemId), segmentSize }
  const proven = traits.isListingProven && { isListingProven: true }
  await mkdir(dirname(path), { mode: 0o700 }).catch(() => {})
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString('hex')}`
  try {
    await writeFile(
      temporary,
      `${JSON.stringify({ archive: identity, marker, checkedMs, ...system, ...proven, ...sealed })}\n`,
      {
        mode: 0o600,
      },
    )
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
}

const content = Buffer.from('the keys of this archive')

const isContent: BeginningTest = (head) =>
  Promise.resolve({ kind: head.subarray(0, content.length).equals(content) ? 'plain' : 'damaged' })

async function seal(keyring: Keyring): Promise<Buffer> {
  const pieces: Uint8Array[] = []
  for await (const piece of keyring.encrypt(only(content))) pieces.push(piece)
  return Buffer.concat(pieces)
}

/** True when the key that writes has made it; a public key alone knows what it has encrypted. */
async function isSealedBy(keyring: Keyring, sealed: Buffer): Promise<boolean> {
  const { writing } = await keyring.keys()
  const look = await keyring.lookAt(new HeadedSource(only(sealed)), isContent)
  if (look.kind === 'sealed') return !writing.canDecrypt
  return look.kind === 'opens' && look.crypter === writing
}

async function* only(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  yield await Promise.resolve(bytes)
}
