/** An HTTP server that answers as a test says, for what no real store can be made to answer. */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { S3Storage } from '../../../src/storage/s3/s3-storage.ts'
import type { S3StorageOptions } from '../../../src/storage/s3/s3-options.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { errorBody } from '../../harness/store/faulty-proxy.ts'

/** A request, read to its end. */
export interface StubRequest {
  readonly method: string
  /** Path without the bucket, decoded. */
  readonly key: string
  readonly query: URLSearchParams
  readonly headers: NodeJS.Dict<string | string[]>
  readonly body: Buffer
}

/** An answer. `hang`: none. `cutAfter`: bytes of the body after which the connection breaks. */
export interface StubAnswer {
  readonly status?: number
  readonly headers?: Record<string, string>
  readonly body?: string | Buffer
  readonly hang?: boolean
  readonly cutAfter?: number
}

/** See {@link startStub}. */
export interface Stub extends AsyncDisposable {
  readonly endpoint: string
  /** Requests so far, oldest first. */
  readonly requests: StubRequest[]
  /** Requests as `PUT a/b` lines. */
  readonly log: string[]
  /** A storage on it that waits little between attempts; closed with the stub. */
  open(options?: Partial<S3StorageOptions>): S3Storage
}

/** Starts a server that answers each request by `answer`. */
export async function startStub(answer: (request: StubRequest, index: number) => StubAnswer): Promise<Stub> {
  const requests: StubRequest[] = []
  const storages: S3Storage[] = []
  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? '/', 'http://stub')
      const seen = {
        method: request.method ?? '',
        key: decodeURIComponent(url.pathname.split('/').slice(2).join('/')),
        query: url.searchParams,
        headers: request.headers,
        body: await buffer(request),
      }
      const { status = 200, headers = {}, body = '', hang, cutAfter } = answer(seen, requests.push(seen) - 1)
      if (hang) return
      const bytes = Buffer.from(body as string)
      // A HEAD has the length of the body that a GET would have.
      const length = headers['content-length'] ?? String(bytes.length)
      // As every store, with an ETag where all is well.
      const etag = status < 300 ? { etag: '"stub"' } : {}
      response.writeHead(status, { date: new Date().toUTCString(), ...etag, ...headers, 'content-length': length })
      if (cutAfter === undefined) response.end(request.method === 'HEAD' ? undefined : bytes)
      else response.write(bytes.subarray(0, cutAfter), () => request.socket.destroy())
    })().catch(() => request.socket.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    endpoint,
    requests,
    get log() {
      return requests.map(({ method, key }) => `${method} ${key}`)
    },
    open(options = {}) {
      const storage = new S3Storage({
        folders: archiveFolders,
        endpoint,
        bucket: 'bucket',
        forcePathStyle: true,
        accessKeyId: 'key',
        secretAccessKey: 'secret',
        retryDelayFirstMs: 1,
        retryDelayMaxMs: 2,
        maxRetries: 15,
        ...options,
      })
      storages.push(storage)
      return storage
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(storages.map((storage) => storage.close()))
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** An answer in the form of an S3 error. */
export function s3Error(status: number, code: string, headers: Record<string, string> = {}): StubAnswer {
  return {
    status,
    body: errorBody(code, 'as the test says'),
    headers: { 'content-type': 'application/xml', ...headers },
  }
}

/** The XML of a listing: keys as they are to be sent, other elements as given. */
export function listingBody(keys: readonly string[], elements = ''): string {
  const contents = keys.map(
    (key) =>
      `<Contents><Key>${key}</Key><Size>1</Size><LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>`,
  )
  return `<?xml version="1.0"?><ListBucketResult>${elements}${contents.join('')}</ListBucketResult>`
}
