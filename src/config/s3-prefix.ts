/**
 * The bucket and the folder that WALG_S3_PREFIX names, read as WAL-G reads it (pkg/storages/storage/utils.go,
 * GetPathFromPrefix): as a URL of Go, whose path is decoded. So both tools have the same keys, or walrx refuses the
 * prefix: where WAL-G drops a part of it, or the keys would depend on the version of an SDK.
 */
import { WalrxError } from '../primitives/errors.ts'

/** A bucket, and a folder in it without a slash at either end; '' for none. */
export interface S3Place {
  readonly bucket: string
  readonly folder: string
}

/**
 * Reads a prefix, and a folder below it, which is taken as it is.
 * @throws WALRX_USAGE with the reason; never with what may be a secret
 */
export function parseS3Prefix(prefix: string, subfolder = ''): S3Place {
  const match = /^s3:\/\/([^/?#]*)([^?#]*)(.*)$/is.exec(prefix)
  const shown = JSON.stringify(withoutUser(prefix))
  const refuse = (problem: string, hint?: string): WalrxError =>
    new WalrxError('WALRX_USAGE', `WALG_S3_PREFIX is ${shown}, and ${problem}`, hint === undefined ? {} : { hint })
  const [, authority = '', path = '', rest = ''] = match ?? []
  if (!match || authority === '') throw refuse('must be s3://bucket/path')
  if (withoutUser(prefix) !== prefix) {
    const hint =
      'put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and change the secret if others could read it'
    throw refuse('has text before an @ in the place of the bucket: keys have no place there', hint)
  }
  if (!/^[a-z0-9][a-z0-9._-]*$/i.test(authority)) throw refuse(`"${authority}" cannot be the name of a bucket`)
  if (rest !== '') {
    const hint = `write ${rest.startsWith('?') ? '%3F instead of ?' : '%23 instead of #'} where it is part of the path`
    throw refuse(`WAL-G would drop "${rest}", because it takes the prefix for a URL`, hint)
  }
  // Go refuses these in a URL.
  if (/[\0-\x1f\x7f]/.test(prefix)) throw refuse('has a control character')
  const folder = trim(decoded(path, refuse))
  const below = trim(subfolder)
  const wrong = wrongFolder(folder)
  if (wrong !== undefined) throw refuse(wrong)
  const wrongBelow = wrongFolder(below)
  if (wrongBelow !== undefined)
    throw new WalrxError('WALRX_USAGE', `WALG_STORAGE_PREFIX is ${JSON.stringify(subfolder)}, and ${wrongBelow}`)
  return { bucket: authority, folder: [folder, below].filter((part) => part !== '').join('/') }
}

/** A prefix without what may be keys: for messages. */
export function withoutUser(prefix: string): string {
  const [, scheme = '', rest = ''] = /^([a-z0-9+.-]*:\/\/)?(.*)$/is.exec(prefix) ?? []
  return scheme + rest.replace(/^(?:[^/]*@|[^/:]*:.*@)/s, '…@')
}

function trim(path: string): string {
  return path.replace(/^\/+|\/+$/g, '')
}

function decoded(path: string, refuse: (problem: string, hint?: string) => WalrxError): string {
  try {
    return decodeURIComponent(path)
  } catch {
    const hint = 'write %25 for a percent sign that is part of the path'
    throw refuse('has a percent sign without the two hex digits of a character of UTF-8 after it', hint)
  }
}

function wrongFolder(folder: string): string | undefined {
  if (folder.includes('//')) return 'has an empty name between two slashes: whether keys keep it depends on the tool'
  if (folder.split('/').some((name) => name === '.' || name === '..')) return 'has a folder named "." or ".."'
  return folder.includes('\0') || !folder.isWellFormed() ? 'has a character that no key may have' : undefined
}
