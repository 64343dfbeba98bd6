/** Whether a multipart upload was completed although the store's answer did not come. */
import { createHash } from 'node:crypto'
import type { CompletedPart, PutObjectCommandInput } from '@aws-sdk/client-s3'
import type { S3Attempt } from './s3-retries.ts'
import { codeOf, statusOf } from './s3-errors.ts'

/** A part as it was sent. */
export interface SentPart {
  /** Bytes. */
  readonly size: number
  /** SHA-256 of its bytes, in hex. */
  readonly sha256: string
}

/**
 * True when the object under the key is the one that these parts make. S3 names such an object by the MD5 of the MD5s of
 * its parts; where a store or an encryption names it otherwise, its size is compared, and then its bytes are read.
 * @param sent by part number
 * @throws what the store answers
 */
export async function isCompleted(
  { Bucket, Key, SSECustomerAlgorithm, SSECustomerKey }: PutObjectCommandInput,
  parts: readonly CompletedPart[],
  sent: ReadonlyMap<number, SentPart>,
  { sdk, send }: S3Attempt,
  signal: AbortSignal,
): Promise<boolean> {
  const encryption = SSECustomerKey === undefined ? {} : { SSECustomerAlgorithm, SSECustomerKey }
  const object = { Bucket, Key, ...encryption }
  const head = await send(new sdk.HeadObjectCommand(object)).catch((error: unknown) => {
    if (statusOf(error) === 404) return undefined
    throw error
  })
  if (!head) return false
  const { ContentLength, ETag } = head
  const hash = createHash('md5')
  for (const { ETag: part = '' } of parts) hash.update(Buffer.from(part.replaceAll('"', ''), 'hex'))
  if (ETag?.replaceAll('"', '') === `${hash.digest('hex')}-${parts.length}`) return true
  const expected = parts.map(({ PartNumber = 0 }) => sent.get(PartNumber))
  if (expected.some((part) => part === undefined)) return false
  const all = expected as SentPart[]
  if (ContentLength !== all.reduce((sum, { size }) => sum + size, 0)) return false
  try {
    const { Body } = await send(new sdk.GetObjectCommand({ ...object, ...(ETag !== undefined && { IfMatch: ETag }) }))
    return await hasParts(Body as AsyncIterable<Uint8Array>, all, signal)
  } catch (error) {
    // Replaced or removed since the HEAD: not ours.
    if (statusOf(error) === 412 || codeOf(error) === 'NoSuchKey') return false
    throw error
  }
}

/** True when the bytes are those of the parts, one after the other. */
async function hasParts(
  body: AsyncIterable<Uint8Array>,
  parts: readonly SentPart[],
  signal: AbortSignal,
): Promise<boolean> {
  let index = 0
  let hash = createHash('sha256')
  let left = parts[0]?.size ?? 0
  for await (const chunk of body) {
    signal.throwIfAborted()
    for (let rest = chunk; rest.length > 0;) {
      if (left === 0) return false
      const own = rest.subarray(0, left)
      hash.update(own)
      left -= own.length
      rest = rest.subarray(own.length)
      if (left > 0) continue
      if (hash.digest('hex') !== parts[index]?.sha256) return false
      index++
      hash = createHash('sha256')
      left = parts[index]?.size ?? 0
    }
  }
  return index === parts.length
}
