/**
 * Serves a {@link MadeArchive} as a bucket of S3 that can be listed and read, in a process of its own: `node made-bucket.ts
 * SEGMENTS BACKUPS LIST_MS`. The first line of its output is its port. `GET /counts` answers how many requests of each kind
 * there were since the last such request, as JSON.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { MadeArchive, type MadeObject } from './made-archive.ts'

const bucket = 'made'
const pageSize = 1000

const [segments = 0, backups = 0, listMs = 0] = process.argv.slice(2).map(Number)
const archive = new MadeArchive({ segments, backups })
let counts = { LIST: 0, GET: 0, HEAD: 0, other: 0 }

function listing(query: URLSearchParams): string {
  const prefix = query.get('prefix') ?? ''
  const delimiter = query.get('delimiter') ?? ''
  const isSecond = query.get('list-type') === '2'
  const after = query.get('continuation-token') ?? query.get(isSecond ? 'start-after' : 'marker') ?? ''
  const most = Math.min(pageSize, Number(query.get('max-keys') ?? pageSize))
  const objects: MadeObject[] = []
  const prefixes: string[] = []
  let last = ''
  let index = archive.indexOf(after < prefix ? prefix : after)
  // The key itself, or all below the folder at which the page before ended.
  if (index < archive.count && archive.at(index).key === after) index++
  if (delimiter !== '' && after.endsWith(delimiter)) index = archive.indexOf(`${after.slice(0, -1)}0`)
  for (; index < archive.count && objects.length + prefixes.length < most;) {
    const object = archive.at(index)
    if (!object.key.startsWith(prefix)) {
      index = archive.count
      break
    }
    const slash = delimiter === '' ? -1 : object.key.indexOf(delimiter, prefix.length)
    last = slash < 0 ? object.key : object.key.slice(0, slash + 1)
    if (slash < 0) objects.push(object)
    else prefixes.push(last)
    // '0' is what follows '/' in the order of bytes.
    index = slash < 0 ? index + 1 : archive.indexOf(`${last.slice(0, -1)}0`)
  }
  const isCut = index < archive.count && archive.at(index).key.startsWith(prefix)
  const contents = objects.map(
    ({ key, modifiedMs, size }) =>
      `<Contents><Key>${key}</Key><LastModified>${new Date(modifiedMs).toISOString()}</LastModified>` +
      `<ETag>"${size}"</ETag><Size>${size}</Size><StorageClass>STANDARD</StorageClass></Contents>`,
  )
  const folders = prefixes.map((each) => `<CommonPrefixes><Prefix>${each}</Prefix></CommonPrefixes>`)
  const next = isSecond ? 'NextContinuationToken' : 'NextMarker'
  return (
    `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>${bucket}</Name><Prefix>${prefix}</Prefix>` +
    `<KeyCount>${objects.length + prefixes.length}</KeyCount><MaxKeys>${most}</MaxKeys><IsTruncated>${isCut}</IsTruncated>` +
    `${isCut ? `<${next}>${last}</${next}>` : ''}${contents.join('')}${folders.join('')}</ListBucketResult>`
  )
}

function send(response: ServerResponse, status: number, body: string | Buffer, headers: Record<string, string> = {}) {
  response.writeHead(status, { 'content-length': Buffer.byteLength(body), ...headers })
  response.end(body)
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://made')
  if (url.pathname === '/counts') {
    send(response, 200, JSON.stringify(counts))
    counts = { LIST: 0, GET: 0, HEAD: 0, other: 0 }
    return
  }
  const key = decodeURIComponent(url.pathname.slice(1 + bucket.length + 1))
  if (request.method === 'GET' && key === '') {
    if (url.searchParams.has('location') || url.searchParams.has('versioning')) {
      counts.other++
      const name = url.searchParams.has('location') ? 'LocationConstraint' : 'VersioningConfiguration'
      return send(response, 200, `<${name}></${name}>`, { 'content-type': 'application/xml' })
    }
    counts.LIST++
    const began = performance.now()
    const page = listing(url.searchParams)
    await delay(Math.max(0, listMs - (performance.now() - began)))
    return send(response, 200, page, { 'content-type': 'application/xml' })
  }
  if (request.method === 'HEAD' && key === '') {
    counts.HEAD++
    return send(response, 200, '')
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    counts.other++
    return send(response, 403, '<Error><Code>AccessDenied</Code></Error>', { 'content-type': 'application/xml' })
  }
  counts[request.method]++
  if (!archive.has(key)) return send(response, 404, '<Error><Code>NoSuchKey</Code></Error>')
  const content = archive.content(key)
  const headers = { etag: `"${content.length}"`, 'last-modified': new Date(0).toUTCString() }
  if (request.method === 'GET') return send(response, 200, content, headers)
  response.writeHead(200, { 'content-length': content.length, ...headers })
  response.end()
}

const server = createServer((request, response) => void answer(request, response))
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`)
})
