/** What a store says of an object's content in its entity tag. */
import type { ObjectInfo } from '../storage.ts'

/**
 * The MD5 that an entity tag may be. S3 makes the tag of the content where an object came in one request and is encrypted by
 * no key of KMS or of the customer (API reference, "Object": ETag); the tag of a multipart upload has a dash.
 * @param etag with or without its quotes
 */
export function md5Of(etag: string | undefined): Pick<ObjectInfo, 'md5'> {
  const [, md5] = /^"?([0-9a-f]{32})"?$/.exec(etag ?? '') ?? []
  return md5 === undefined ? {} : { md5 }
}
