/**
 * Reads one part: decodes it, takes the tar apart, checks the files and writes them. What is to be done with each entry is
 * decided by a {@link EntryHost}, which may live on another thread; so may the storage, which passes the stored bytes on.
 */
import { handedPieces, type Handing } from '../../../walg/stored/handed-object.ts'
import { ObjectSum } from '../../../walg/stored/object-sum.ts'
import { WalrxError } from '../../../primitives/errors.ts'
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

/** What was done with it. `size` is that of the entry. */
export type EntryResult = { readonly place: EntryPlace; readonly size: number } & (
  | { readonly kind: 'written' }
  | { readonly kind: 'kept'; readonly content: Uint8Array }
  | { readonly kind: 'changed'; readonly applied: AppliedIncrement }
)

/**
 * Decides what is done with entries, and hears of the end of each that is not skipped, in their order. It is asked for an entry
 * again where the answer was not used: for one that comes after others whose end it has to wait for.
 */
export interface EntryHost {
  plan(entry: EntryHead): Promise<EntryPlan>
  done(result: EntryResult): Promise<void>
}

/** The same for the reader of a part, which asks for several entries at once: a thread would wait for each answer. */
export interface PlanSource {
  /** @returns plans for some of the entries from the first on, and at least for that */
  plans(entries: readonly EntryHead[]): Promise<readonly EntryPlan[]>
  done(result: EntryResult): Promise<void>
}

/** The most entries that are asked for at once: the places of their files are taken until they are written. */
const askedMax = 100

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
 * @throws WALRX_BACKUP_DAMAGED, WALRX_OBJECT_DAMAGED and what else does not decode; what source, plans and files throw. Then no
 * file is open any more
 */
export async function readPart(source: PartSource, host: PlanSource, files: FileOpener): Promise<PartSum> {
  const { at } = source.handing
  const sum = new ObjectSum()
  const stored = summed(source.bytes, sum)
  const pieces = handedPieces(source.handing, stored, { inSync: true, release: (chunk) => source.release(chunk) })
  let plans: EntryPlan[] = []
  for await (const entry of tarEntries(pieces, at)) {
    if (plans.length === 0) plans = [...(await host.plans([entry, ...(entry.ahead?.(askedMax - 1) ?? [])].map(headOf)))]
    const plan = plans.shift()
    if (!plan) throw new WalrxError('WALRX_INTERNAL', `${at}: there is no plan for ${entry.name}`)
    if (plan.kind === 'skip') continue
    await host.done(await carryOut(plan, entry, at, files))
  }
  for await (const rest of stored) source.release(rest)
  return { size: sum.size, crc32c: sum.crc32c }
}

function headOf({ kind, mode, name, size }: EntryHead): EntryHead {
  return { name, kind, size, mode }
}

async function carryOut(
  plan: Exclude<EntryPlan, { kind: 'skip' }>,
  entry: TarEntry,
  at: string,
  files: FileOpener,
): Promise<EntryResult> {
  const { place } = plan
  const { size } = entry
  switch (plan.kind) {
    case 'change':
      return { kind: 'changed', place, size, applied: await applyIncrement(entry, await files.change(place), at) }
    case 'keep':
      return { kind: 'kept', place, size, content: await keepFile(entry, plan, at) }
    case 'write':
      await writeFile(entry, await files.file(place), plan.expected, at)
      return { kind: 'written', place, size }
    default:
      return plan satisfies never
  }
}

async function writeFile(
  entry: TarEntry,
  file: RestoredFile,
  expected: ExpectedSum | undefined,
  at: string,
): Promise<void> {
  try {
    await checkBody(entry, expected, at, (chunk) => file.write(chunk))
    await file.finish()
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
): Promise<void> {
  const checksum = expected?.algorithm === undefined ? undefined : openChecksum(expected.algorithm, 'the manifest')
  let bytes = 0
  for await (const chunk of body) {
    bytes += chunk.length
    checksum?.update(chunk)
    await take(chunk)
  }
  if (bytes !== size) throw damaged(`${at} holds ${bytes} bytes of ${name} instead of ${size}`)
  const digest = checksum?.digest()
  if (digest === expected?.checksum) return
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
