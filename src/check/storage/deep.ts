/** `check --deep`: an object as large as a segment, compressed and encrypted as one, is stored and read back. */
import { randomBytes, randomFillSync } from 'node:crypto'
import type { WriteCodec } from '../../compression/codec.ts'
import type { Storage } from '../../storage/storage.ts'
import { readTrial, storeTrial } from '../../storage/trial-object.ts'
import { archiveFolders } from '../../walg/names.ts'
import { StoredWriter } from '../../walg/stored/stored-writer.ts'
import { attempt, type Attempt, type AttemptOptions } from '../attempt.ts'
import { failed, failure, type Finding, ok, skipped, words } from '../finding.ts'
import type { DeepFacts } from './storage-facts.ts'

/** Segments may have a gigabyte; more than this is not held in memory for a check. */
const bytesMax = 64 * 1024 * 1024

/** Milliseconds for all of it. */
const deepMs = 5 * 60_000

/** Writes, reads, compares and removes the object. Throws only the signal's reason. */
export async function deepTrial(
  storage: Storage,
  { codec, segmentSize }: { readonly codec: WriteCodec; readonly segmentSize: number },
  options: AttemptOptions,
): Promise<Attempt<DeepFacts>> {
  const key = `${archiveFolders.probe}/check-${randomBytes(8).toString('hex')}/segment`
  const lateness = {
    code: 'WALRX_STORAGE_UNAVAILABLE',
    what: `${storage.location}, asked for an object as large as a segment,`,
    hint: 'measure the way to the store: it must take WAL as fast as the server writes it',
  } as const
  try {
    return await attempt({ ...options, stepMs: deepMs }, lateness, async (signal) => {
      const content = randomFillSync(Buffer.alloc(Math.min(segmentSize, bytesMax)))
      const writer = new StoredWriter(storage, codec)
      const encoded = await writer.encodeCopy(content)
      const beganMs = options.clock.now()
      await storeTrial(storage, key, encoded, { signal })
      const writtenMs = options.clock.now()
      const found = await readTrial(storage, key, { signal })
      const readMs = options.clock.now() - writtenMs
      const isSame = found.equals(encoded) && (await opens(storage, writer, key, found, content))
      const sizes = { bytes: content.length, segmentSize, storedBytes: encoded.length }
      return { ...sizes, writeMs: writtenMs - beganMs, readMs, isSame }
    })
  } finally {
    const removal = { ...options, signal: new AbortController().signal, stepMs: 5_000 }
    await attempt(removal, lateness, (signal) => storage.delete([key], { signal }))
  }
}

/** True where it decodes to what it was; a public key alone cannot show that. */
async function opens(
  storage: Storage,
  writer: StoredWriter,
  key: string,
  found: Buffer,
  content: Buffer,
): Promise<boolean> {
  if (storage.keyring && !(await storage.keyring.prove()).isReadable) return true
  let at = 0
  for await (const piece of writer.decodeOwn(`${key}.${writer.extension}`, found)) {
    if (!content.subarray(at, at + piece.length).equals(piece)) return false
    at += piece.length
  }
  return at === content.length
}

/** The finding `storage.deep`; `trial` is undefined where it was not made, for the reason. */
export function deepFinding(trial: Attempt<DeepFacts> | undefined, reason: string): Finding {
  const id = 'storage.deep'
  if (!trial) return skipped(id, reason)
  if (trial.error) return failed(id, trial.error)
  const { bytes, isSame, readMs, segmentSize, storedBytes, writeMs } = trial.value
  if (!isSame) {
    return failure(
      id,
      4,
      `${bytes} bytes came back as others than were written`,
      words('do not archive there: something changes what is stored'),
    )
  }
  const part = bytes < segmentSize ? `, the first part of a segment of ${segmentSize}` : ''
  const rate = (ms: number) => `${ms} ms (${(storedBytes / 1e3 / Math.max(ms, 1)).toFixed(0)} MB/s)`
  return ok(id, `${bytes} bytes${part}: stored in ${rate(writeMs)}, read back in ${rate(readMs)}, the same`)
}
