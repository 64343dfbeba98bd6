/** A request to an S3 server, taken apart: the verb of S3, the bucket, the key and the body. */
import type { IncomingMessage } from 'node:http'
import { buffer } from 'node:stream/consumers'

/** What S3 calls the requests that walrx sends. */
export type S3Action =
  | 'AbortMultipartUpload'
  | 'CompleteMultipartUpload'
  | 'CreateMultipartUpload'
  | 'DeleteObject'
  | 'DeleteObjects'
  | 'GetBucketLocation'
  | 'GetObject'
  | 'HeadBucket'
  | 'HeadObject'
  | 'ListMultipartUploads'
  | 'ListObjectsV2'
  | 'ListParts'
  | 'PutObject'
  | 'UploadPart'
  | 'Unknown'

/** One request. */
export interface S3Request {
  readonly action: S3Action
  readonly method: string
  readonly bucket: string
  /** Decoded; '' for a request of the bucket. Of a listing the prefix. */
  readonly key: string
  readonly query: URLSearchParams
  readonly headers: IncomingMessage['headers']
  /** As the store keeps it: without the framing of `aws-chunked`. */
  readonly body: Buffer
  /** How many requests of this action came before this one. */
  readonly nth: number
  /** How many requests in all came before this one. */
  readonly index: number
}

/** Reads a request to its end. */
export async function readRequest(request: IncomingMessage): Promise<Omit<S3Request, 'nth' | 'index'>> {
  const url = new URL(request.url ?? '/', 'http://store')
  const [bucket = '', ...rest] = url.pathname.slice(1).split('/')
  const key = decodeURIComponent(rest.join('/'))
  const method = request.method ?? ''
  const query = url.searchParams
  const raw = await buffer(request)
  const isChunked = String(request.headers['x-amz-content-sha256']).startsWith('STREAMING-')
  const action = actionOf(method, key, query)
  return {
    action,
    method,
    bucket: decodeURIComponent(bucket),
    key: action === 'ListObjectsV2' ? (query.get('prefix') ?? '') : key,
    query,
    headers: request.headers,
    body: isChunked ? withoutChunks(raw) : raw,
  }
}

function actionOf(method: string, key: string, query: URLSearchParams): S3Action {
  const has = (name: string) => query.has(name)
  if (key === '') {
    if (method === 'HEAD') return 'HeadBucket'
    if (method === 'POST' && has('delete')) return 'DeleteObjects'
    if (method !== 'GET') return 'Unknown'
    if (has('uploads')) return 'ListMultipartUploads'
    return has('location') ? 'GetBucketLocation' : 'ListObjectsV2'
  }
  if (method === 'PUT') return has('partNumber') ? 'UploadPart' : 'PutObject'
  if (method === 'POST' && has('uploads')) return 'CreateMultipartUpload'
  if (method === 'POST' && has('uploadId')) return 'CompleteMultipartUpload'
  if (method === 'DELETE') return has('uploadId') ? 'AbortMultipartUpload' : 'DeleteObject'
  if (method === 'HEAD') return 'HeadObject'
  if (method === 'GET') return has('uploadId') ? 'ListParts' : 'GetObject'
  return 'Unknown'
}

/** The bytes in an `aws-chunked` body: `<hex length>[;extension]\r\n<bytes>\r\n … 0\r\n<trailers>`. */
function withoutChunks(raw: Buffer): Buffer {
  const pieces: Buffer[] = []
  for (let at = 0; at < raw.length;) {
    const end = raw.indexOf('\r\n', at)
    if (end < 0) break
    const length = parseInt(raw.subarray(at, end).toString('latin1'), 16)
    if (!(length > 0)) break
    pieces.push(raw.subarray(end + 2, end + 2 + length))
    at = end + 2 + length + 2
  }
  return Buffer.concat(pieces)
}

/** The requests that each action of IAM allows. */
export const requestsOfAction: Readonly<Record<string, readonly S3Action[]>> = {
  ListBucket: ['ListObjectsV2', 'HeadBucket'],
  GetObject: ['GetObject', 'HeadObject'],
  PutObject: ['PutObject', 'CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload'],
  DeleteObject: ['DeleteObject', 'DeleteObjects'],
  AbortMultipartUpload: ['AbortMultipartUpload'],
  ListBucketMultipartUploads: ['ListMultipartUploads'],
}
