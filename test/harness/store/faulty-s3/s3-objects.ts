/** The objects of one bucket in memory, and what S3 answers of them when nothing is wrong. */
import { createHash, randomBytes } from 'node:crypto'
import type { S3Request } from './s3-request.ts'

/** An object. */
export interface S3Object {
  readonly body: Buffer
  /** With its quotes. Of a multipart upload no MD5 of the body. */
  readonly etag: string
  readonly modifiedMs: number
}

/** An answer before any fault. */
export interface S3Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** How the store differs from S3, always. */
export interface S3Traits {
  readonly bucket: string
  /** False ignores `If-None-Match`. Default true. */
  readonly conditionalPut?: boolean
  /** Keys in one page of a listing. Default 1000. */
  readonly pageSize?: number
  /**
   * How a listing after a key answers. `empty`: with nothing at all where the key does not exist; `ignored`: from the
   * beginning; `inclusive`: with the key itself. Default `right`.
   */
  readonly startAfter?: 'right' | 'empty' | 'ignored' | 'inclusive'
  /** The position of the next page is missing, or an empty text. Default false. */
  readonly losesTokens?: boolean | 'empty'
  /** Keys come in the order of their last characters. Default false. */
  readonly listsInDisorder?: boolean
  /** A page ends before it is full, marked as the last one, although there are more keys. Default false. */
  readonly endsPagesEarly?: boolean
  /** A page is marked as the last one when it has fewer keys than were asked for: so is each that is cut at `pageSize`. Default false. */
  readonly hidesPageSize?: boolean
  /** PutObject and UploadPart without Content-MD5 or a checksum answer 400 InvalidRequest, as with object lock. Default false. */
  readonly wantsChecksums?: boolean
  /** What is missing answers 403 to a key without s3:ListBucket. Default false. */
  readonly hidesMissing?: boolean
  /** Deletes are refused. Default false. */
  readonly isWriteOnce?: boolean
  /** What the first element of an answer ends in. Default `Result`, which is S3's. */
  readonly rootEndsIn?: 'Result' | 'Response' | 'Output'
  /** A backslash in a key or a prefix becomes a slash, as in SeaweedFS. Default false. */
  readonly turnsBackslashes?: boolean
}

interface Upload {
  readonly key: string
  readonly parts: Map<number, Buffer>
}

const none = Buffer.alloc(0)

/** See the file's header. */
export class S3Objects {
  readonly objects = new Map<string, S3Object>()
  readonly uploads = new Map<string, Upload>()
  readonly traits: S3Traits

  constructor(traits: S3Traits) {
    this.traits = traits
  }

  /** Carries a request out. */
  answer(request: S3Request): S3Answer {
    const { rootEndsIn, turnsBackslashes } = this.traits
    const isTurned = turnsBackslashes === true
    const answer = this.#carryOut(isTurned ? { ...request, key: request.key.replaceAll('\\', '/') } : request)
    if (rootEndsIn === undefined || answer.headers['content-type'] !== 'application/xml') return answer
    const text = answer.body.toString()
    return { ...answer, body: Buffer.from(text.replace(/(?<=<\/?\w+)Result(?=>)/g, rootEndsIn)) }
  }

  #carryOut(request: S3Request): S3Answer {
    if (request.bucket !== this.traits.bucket) return s3Error(404, 'NoSuchBucket', `no bucket ${request.bucket}`)
    switch (request.action) {
      case 'PutObject':
        return this.#put(request)
      case 'GetObject':
      case 'HeadObject':
        return this.#get(request)
      case 'DeleteObject':
        return this.#delete([request.key]) ?? { status: 204, headers: {}, body: none }
      case 'DeleteObjects':
        return this.#deleteMany(request)
      case 'ListObjectsV2':
        return this.#list(request)
      case 'CreateMultipartUpload':
        return this.#create(request)
      case 'UploadPart':
        return this.#part(request)
      case 'CompleteMultipartUpload':
        return this.#complete(request)
      case 'AbortMultipartUpload':
        this.uploads.delete(request.query.get('uploadId') ?? '')
        return { status: 204, headers: {}, body: none }
      case 'ListMultipartUploads':
        return this.#listUploads(request)
      case 'HeadBucket':
        return { status: 200, headers: {}, body: none }
      default:
        return s3Error(501, 'NotImplemented', `${request.method} of this form`)
    }
  }

  #put({ body, headers, key }: S3Request): S3Answer {
    const refusal = this.#refusedChecksum(headers)
    if (refusal) return refusal
    if (headers['if-none-match'] === '*' && this.traits.conditionalPut !== false && this.objects.has(key)) {
      return s3Error(412, 'PreconditionFailed', 'the object is there')
    }
    const etag = `"${createHash('md5').update(body).digest('hex')}"`
    this.objects.set(key, { body, etag, modifiedMs: Date.now() })
    return { status: 200, headers: { etag }, body: none }
  }

  #refusedChecksum(headers: S3Request['headers']): S3Answer | undefined {
    if (this.traits.wantsChecksums !== true) return undefined
    const names = Object.keys(headers)
    const hasOne = names.some((name) => name === 'content-md5' || /^x-amz-(checksum-|trailer)/.test(name))
    return hasOne ? undefined : s3Error(400, 'InvalidRequest', 'Content-MD5 or x-amz-checksum- is required')
  }

  #get({ action, headers, key }: S3Request): S3Answer {
    const object = this.objects.get(key)
    if (!object) {
      if (this.traits.hidesMissing === true) return s3Error(403, 'AccessDenied', 'Access Denied')
      return s3Error(404, 'NoSuchKey', 'The specified key does not exist.')
    }
    if (headers['if-match'] !== undefined && headers['if-match'] !== object.etag) {
      return s3Error(412, 'PreconditionFailed', 'the object is another one')
    }
    const range = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '')
    const from = range ? Number(range[1]) : 0
    const to = range?.[2] ? Number(range[2]) + 1 : object.body.length
    const body = object.body.subarray(from, to)
    const common = {
      etag: object.etag,
      'last-modified': new Date(object.modifiedMs).toUTCString(),
      'content-length': String(body.length),
      ...(range && { 'content-range': `bytes ${from}-${from + body.length - 1}/${object.body.length}` }),
    }
    return { status: range ? 206 : 200, headers: common, body: action === 'HeadObject' ? none : body }
  }

  #delete(keys: readonly string[]): S3Answer | undefined {
    if (this.traits.isWriteOnce === true) return s3Error(403, 'AccessDenied', 'Access Denied because of object lock')
    for (const key of keys) this.objects.delete(key)
    return undefined
  }

  #deleteMany({ body }: S3Request): S3Answer {
    const keys = [...body.toString().matchAll(/<Key>(.*?)<\/Key>/gs)].map(([, key = '']) => unescapeXml(key))
    if (this.traits.isWriteOnce === true) {
      const refused = keys.map((key) => `<Error><Key>${escapeXml(key)}</Key><Code>AccessDenied</Code></Error>`)
      return xml(`<DeleteResult>${refused.join('')}</DeleteResult>`)
    }
    this.#delete(keys)
    return xml('<DeleteResult></DeleteResult>')
  }

  #list({ query }: S3Request): S3Answer {
    const given = query.get('prefix') ?? ''
    const prefix = this.traits.turnsBackslashes === true ? given.replaceAll('\\', '/') : given
    const token = query.get('continuation-token')
    const startAfter = query.get('start-after') ?? ''
    const { endsPagesEarly, hidesPageSize, listsInDisorder, losesTokens, pageSize = 1000 } = this.traits
    const sortKey = (key: string) => Buffer.from(listsInDisorder === true ? [...key].reverse().join('') : key)
    const all = [...this.objects.keys()]
      .filter((key) => key.startsWith(prefix))
      .toSorted((a, b) => Buffer.compare(sortKey(a), sortKey(b)))
    let keys = all
    if (token !== null) keys = all.filter((key) => after(key, Buffer.from(token, 'base64url').toString()))
    else if (startAfter !== '') keys = this.#startAfter(all, startAfter)
    const size = Math.min(pageSize, Number(query.get('max-keys') ?? pageSize))
    const page = keys.slice(0, endsPagesEarly === true ? Math.max(1, Math.floor(size / 2)) : size)
    const isHidden = hidesPageSize === true && page.length < Number(query.get('max-keys') ?? 1000)
    const isTruncated = keys.length > page.length && endsPagesEarly !== true && !isHidden
    const isEncoded = query.get('encoding-type') === 'url'
    const contents = page.map((key) => {
      const { body, etag, modifiedMs } = this.objects.get(key) as S3Object
      const shown = isEncoded ? encodeURIComponent(key).replaceAll('%2F', '/') : escapeXml(key)
      const time = new Date(modifiedMs).toISOString()
      return `<Contents><Key>${shown}</Key><LastModified>${time}</LastModified><ETag>${escapeXml(etag)}</ETag><Size>${body.length}</Size></Contents>`
    })
    const next = Buffer.from(page.at(-1) ?? '').toString('base64url')
    const elements = [
      `<Name>${this.traits.bucket}</Name><Prefix>${escapeXml(prefix)}</Prefix><KeyCount>${page.length}</KeyCount>`,
      `<MaxKeys>${size}</MaxKeys><IsTruncated>${isTruncated}</IsTruncated>`,
      isEncoded ? '<EncodingType>url</EncodingType>' : '',
      isTruncated && losesTokens !== true
        ? `<NextContinuationToken>${losesTokens === 'empty' ? '' : next}</NextContinuationToken>`
        : '',
    ]
    return xml(`<ListBucketResult>${elements.join('')}${contents.join('')}</ListBucketResult>`)
  }

  #startAfter(all: readonly string[], startAfter: string): string[] {
    if (this.traits.startAfter === 'ignored') return [...all]
    if (this.traits.startAfter === 'empty' && !this.objects.has(startAfter)) return []
    const isInclusive = this.traits.startAfter === 'inclusive'
    return all.filter((key) => after(key, startAfter) || (isInclusive && key === startAfter))
  }

  #create({ key }: S3Request): S3Answer {
    const id = randomBytes(8).toString('hex')
    this.uploads.set(id, { key, parts: new Map() })
    const names = `<Bucket>${this.traits.bucket}</Bucket><Key>${escapeXml(key)}</Key>`
    return xml(`<InitiateMultipartUploadResult>${names}<UploadId>${id}</UploadId></InitiateMultipartUploadResult>`)
  }

  #part({ body, headers, query }: S3Request): S3Answer {
    const refusal = this.#refusedChecksum(headers)
    if (refusal) return refusal
    const upload = this.uploads.get(query.get('uploadId') ?? '')
    if (!upload) return s3Error(404, 'NoSuchUpload', 'no such upload')
    upload.parts.set(Number(query.get('partNumber')), body)
    return { status: 200, headers: { etag: `"${createHash('md5').update(body).digest('hex')}"` }, body: none }
  }

  #complete({ body, headers, key, query }: S3Request): S3Answer {
    const id = query.get('uploadId') ?? ''
    const upload = this.uploads.get(id)
    if (!upload) return s3Error(404, 'NoSuchUpload', 'no such upload')
    if (headers['if-none-match'] === '*' && this.traits.conditionalPut !== false && this.objects.has(key)) {
      return s3Error(412, 'PreconditionFailed', 'the object is there')
    }
    const numbers = [...body.toString().matchAll(/<PartNumber>(\d+)<\/PartNumber>/g)].map(([, number]) =>
      Number(number),
    )
    const parts = numbers.map((number) => upload.parts.get(number))
    if (parts.some((part) => part === undefined)) return s3Error(400, 'InvalidPart', 'a part is missing')
    const whole = Buffer.concat(parts as Buffer[])
    const etag = `"${createHash('md5').update(whole).update('parts').digest('hex')}-${parts.length}"`
    this.objects.set(key, { body: whole, etag, modifiedMs: Date.now() })
    this.uploads.delete(id)
    const names = `<Bucket>${this.traits.bucket}</Bucket><Key>${escapeXml(key)}</Key>`
    return xml(`<CompleteMultipartUploadResult>${names}<ETag>${escapeXml(etag)}</ETag></CompleteMultipartUploadResult>`)
  }

  #listUploads({ query }: S3Request): S3Answer {
    const prefix = query.get('prefix') ?? ''
    const found = [...this.uploads].filter(([, { key }]) => key.startsWith(prefix))
    const uploads = found.map(
      ([id, { key }]) => `<Upload><Key>${escapeXml(key)}</Key><UploadId>${id}</UploadId></Upload>`,
    )
    return xml(
      `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${uploads.join('')}</ListMultipartUploadsResult>`,
    )
  }
}

/** An error as S3 answers it. */
export function s3Error(status: number, code: string, message: string): S3Answer {
  return xml(`<Error><Code>${code}</Code><Message>${escapeXml(message)}</Message></Error>`, status)
}

function xml(text: string, status = 200): S3Answer {
  const body = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>\n${text}`)
  return { status, headers: { 'content-type': 'application/xml' }, body }
}

function after(key: string, other: string): boolean {
  return Buffer.compare(Buffer.from(key), Buffer.from(other)) > 0
}

function escapeXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}

function unescapeXml(text: string): string {
  const named: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' }
  return text.replace(/&(?:#x([0-9a-f]+)|#(\d+)|(\w+));/gi, (whole, hex?: string, decimal?: string, name?: string) => {
    if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16))
    return decimal !== undefined ? String.fromCodePoint(Number(decimal)) : (named[name ?? ''] ?? whole)
  })
}
