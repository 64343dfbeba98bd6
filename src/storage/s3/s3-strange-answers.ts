/**
 * Answers with a status of success that are not S3's: the page of a proxy, a login or a captive portal, in place of the
 * answer. The SDK takes the page for a listing without keys, or for the bytes of an object. Here such an answer becomes
 * a passing fault, as one with status 502 is: it proves nothing about the request.
 */
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import type { S3Client } from '@aws-sdk/client-s3'
import { type ListedContents, takeContents } from './s3-listing-answer.ts'

/**
 * The element that the XML of an answer begins with, without `Result` at its end, by the operation (S3 API reference).
 * A store may name it after the operation, and may end it in `Response` or `Output`: the SDK does not read the name. moto
 * answers CompleteMultipartUploadResponse.
 */
const roots: Readonly<Record<string, string>> = {
  ListObjectsV2: 'ListBucket',
  CreateMultipartUpload: 'InitiateMultipartUpload',
  CompleteMultipartUpload: 'CompleteMultipartUpload',
  DeleteObjects: 'Delete',
  ListMultipartUploads: 'ListMultipartUploads',
}

/** Commands that every store answers with the ETag of the object or part. */
const withEtag: ReadonlySet<string> = new Set([
  'GetObjectCommand',
  'HeadObjectCommand',
  'PutObjectCommand',
  'UploadPartCommand',
])

/** An answer of the SDK's HTTP handler. */
interface RawAnswer {
  readonly statusCode: number
  readonly headers: Readonly<Record<string, string>>
  body: unknown
}

/** Has the client fail where an answer is none of S3's. */
export function refuseStrangeAnswers(client: S3Client): void {
  client.middlewareStack.add(
    (next, context) => async (args) => {
      const result = await next(args)
      const answer = result.response as RawAnswer
      if (answer.statusCode >= 200 && answer.statusCode < 300) await check(context.commandName ?? '', answer)
      return result
    },
    { step: 'deserialize', priority: 'low', name: 'walrxStrangeAnswers' },
  )
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args)
      const contents = taken.get(result.response as object)
      if (contents && result.output) Object.assign(result.output, { Contents: contents })
      return result
    },
    { step: 'deserialize', priority: 'high', name: 'walrxListedContents' },
  )
}

/** Objects that were taken out of an answer before the SDK has read it. */
const taken = new WeakMap<object, readonly ListedContents[]>()

async function check(command: string, answer: RawAnswer): Promise<void> {
  if (withEtag.has(command) && (answer.headers['etag'] ?? '') === '') {
    if (answer.body instanceof Readable) answer.body.destroy()
    throw strange(answer, 'without an ETag')
  }
  const operation = command.replace(/Command$/, '')
  const root = roots[operation]
  if (root === undefined || !(answer.body instanceof Readable)) return
  const bytes = await buffer(answer.body)
  const first = /<(?![?!])(?:[\w-]+:)?([\w-]+)/.exec(bytes.toString('utf8', 0, 4096))?.[1]
  const name = /^(\w+)(?:Result|Response|Output)$/.exec(first ?? '')?.[1]
  // S3 answers Error with status 200 when a completion fails: the SDK knows.
  if (name !== root && name !== operation && first !== 'Error') throw strange(answer, `without ${root}Result`)
  const listing = operation === 'ListObjectsV2' ? takeContents(bytes) : undefined
  if (listing) taken.set(answer, listing.contents)
  answer.body = Readable.from([listing?.rest ?? bytes])
}

/** Read by the retry loop as any answer that cannot be understood. */
function strange({ headers, statusCode }: RawAnswer, what: string): Error {
  const type = headers['content-type']
  const kind = type === undefined ? '' : `, of type ${type.split(';', 1)[0]}`
  const error = new Error(`an answer that is not from an S3 store: ${what}${kind}`)
  return Object.assign(error, { name: 'StrangeAnswer', $metadata: { httpStatusCode: statusCode } })
}
