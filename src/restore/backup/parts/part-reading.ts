/**
 * Reads one part: decodes it, takes the tar apart, checks the files and writes them. What is to be done with each entry is
 * decided by a {@link EntryHost}, which may live on another thread; so may the storage, which passes the stored bytes on.
 */
import { handedPieces, type Handing } from '../../../walg/stored/handed-object.ts'
import { ObjectSum } from '../../../walg/stored/object-sum.ts'
import { type TarEntry, tarEntries } from '../../../walg/backup/tar/tar-entries.ts'
import { damaged } from '../backup-damage.ts'
import { type AppliedIncrement, applyIncrement } from '../increment-apply.ts'
import { openChecksum } from './checksums.ts'
import type { ChangedFile, RestoredFile } from './restored-file.ts'

/** What is known of an entry before its body. */
export type EntryHead = Pick<TarEntry, 'name' | 'kind' | 'size' | 'mode'>

/** Where an entry's file goes. */
export interface EntryPlace {
  /** Relative to the data directory. */
  readonly path: string
  /** Bits of the mode; undefined for a file that is there. */
  readonly mode?: number
  /** The full path, for another thread; undefined for nowhere. */
  readonly full?: string | undefined
}

/** What a file has to be, by the server's manifest. */
export interface ExpectedSum {
  readonly algorithm: string | undefined
  readonly checksum: string | undefined
}

/** What is to be done with an entry. */
export type EntryPlan =
  | { readonly kind: 'skip' }
  /** A whole file. */
  | { readonly kind: 'write'; readonly place: EntryPlace; readonly expected: ExpectedSum | undefined }
  /** A whole file of so many bytes at most, which the host writes. */
  | {
      readonly kind: 'keep'
      readonly place: EntryPlace
      readonly bytesMax: number
      readonly expected: ExpectedSum | undefined
    }
  /** An increment of a file. */
  | { readonly kind: 'change'; readonly place: EntryPlace }

/** What was done with it. */
export type EntryResult =
  | { readonly kind: 'written'; readonly bytes: number }
  | { readonly kind: 'kept'; readonly place: EntryPlace; readonly content: Uint8Array }
  | { readonly kind: 'changed'; readonly applied: AppliedIncrement }

/** Decides. It is asked for one entry at a time, and hears of its end before the next, unless that was skipped. */
export interface EntryHost {
  plan(entry: EntryHead): Promise<EntryPlan>
  done(result: EntryResult): Promise<void>
}

/** Opens the files of plans. */
export interface FileOpener {
  file(place: EntryPlace): Promise<RestoredFile>
  change(place: EntryPlace): Promise<ChangedFile>
}

/** A part that was opened. */
export interface PartSource {
  readonly handing: Handing
  readonly bytes: AsyncIterable<Uint8Array>
  /** A chunk is no longer needed. */
  release(chunk: Uint8Array): void
}

/** Size and CRC-32C of stored bytes. */
export type PartSum = Pick<ObjectSum, 'size' | 'crc32c'>

/**
 * Reads a part to its end, bytes after the tar's end included.
 * @returns the sum of the bytes that came
 * @throws WALRX_BACKUP_DAMAGED, WALRX_OBJECT_DAMAGED and what else does not decode; what source, host and files throw. Then no
 * file is open any more
 */
export async function readPart(source: PartSource, host: EntryHost, files: FileOpener): Promise<PartSum> {
  const { at } = source.handing
  const sum = new ObjectSum()
  const stored = summed(source.bytes, sum)
  const pieces = handedPieces(source.handing, stored, { inSync: true, release: (chunk) => source.release(chunk) })
  for await (const entry of tarEntries(pieces, at)) {
    const { kind, mode, name, size } = entry
    const plan = await host.plan({ name, kind, size, mode })
    if (plan.kind === 'skip') continue
    await host.done(await carryOut(plan, entry, at, files))
  }
  for await (const rest of stored) source.release(rest)
  return { size: sum.size, crc32c: sum.crc32c }
}

async function carryOut(
  plan: Exclude<EntryPlan, { kind: 'skip' }>,
  entry: TarEntry,
  at: string,
  files: FileOpener,
): Promise<EntryResult> {
  switch (plan.kind) {
    case 'change':
      return { kind: 'changed', applied: await applyIncrement(entry, await files.change(plan.place), at) }
    case 'keep':
      return { kind: 'kept', place: plan.place, content: await keepFile(entry, plan, at) }
    case 'write':
      return { kind: 'written', bytes: await writeFile(entry, await files.file(plan.place), plan.expected, at) }
    default:
      return plan satisfies never
  }
}

async function writeFile(
  entry: TarEntry,
  file: RestoredFile,
  expected: ExpectedSum | undefined,
  at: string,
): Promise<number> {
  try {
    const bytes = await checkBody(entry, expected, at, (chunk) => file.write(chunk))
    await file.finish()
    return bytes
  } finally {
    await file.drop()
  }
}

async function keepFile(
  entry: TarEntry,
  { bytesMax, expected, place }: EntryPlan & { readonly kind: 'keep' },
  at: string,
): Promise<Buffer> {
  const kept: Buffer[] = []
  let bytes = 0
  await checkBody(entry, expected, at, (chunk) => {
    bytes += chunk.length
    if (bytes > bytesMax) throw damaged(`${at} holds ${place.path} with more than ${bytesMax} bytes`)
    kept.push(Buffer.from(chunk))
  })
  return Buffer.concat(kept)
}

/** Passes the body on, and throws WALRX_BACKUP_DAMAGED where it is not what is expected. */
async function checkBody(
  { body, name, size }: TarEntry,
  expected: ExpectedSum | undefined,
  at: string,
  take: (chunk: Uint8Array) => Promise<void> | void,
): Promise<number> {
  const checksum = expected?.algorithm === undefined ? undefined : openChecksum(expected.algorithm, 'the manifest')
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    checksum?.update(chunk)
    await take(chunk)
  }
  if (bytes !== size) throw damaged(`${at} holds ${bytes} bytes of ${name} instead of ${size}`)
  const digest = checksum?.digest()
  if (digest === expected?.checksum) return bytes
  const { algorithm, checksum: listed } = expected ?? {}
  throw damaged(`${at} holds ${name} with ${algorithm} ${digest}, but the server's manifest lists ${listed}`)
}

/** Not a generator: what frees the bytes must not wait for a read. */
function summed(source: AsyncIterable<Uint8Array>, sum: ObjectSum): AsyncIterable<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]()
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      const result = await chunks.next()
      if (!result.done) sum.add(result.value)
      return result
    },
    async return() {
      await chunks.return?.()
      return { done: true, value: undefined }
    },
  }
  return { [Symbol.asyncIterator]: () => iterator }
}
