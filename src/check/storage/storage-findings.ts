/** Findings of the storage: what may be done there, and how the store behaves. */
import process from 'node:process'
import type { WalrxError } from '../../primitives/errors.ts'
import { codeOf } from '../../storage/s3/s3-errors.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import type { Attempt } from '../attempt.ts'
import type { CheckId } from '../check-table.ts'
import { clockFinding } from '../clock-finding.ts'
import { failed, failure, type Finding, here, note, ok, skipped, type Step, warning, words } from '../finding.ts'
import { isDeniedByPolicy } from './probe-store.ts'
import type { BucketPlace, StorageFacts } from './storage-facts.ts'

/** Findings from `storage.list` to `storage.clock`. */
export function storageFindings(facts: StorageFacts): Finding[] {
  return [
    finding('storage.list', facts, facts.list, 's3:ListBucket', `${facts.location} can be listed`),
    finding('storage.put', facts, facts.put, 's3:PutObject', 'an object can be stored'),
    getFinding(facts),
    conditionalPut(facts),
    listing(facts),
    ...bucketFindings(facts),
    removal(facts),
    ...objectFindings(facts),
    clockFinding('storage.clock', 'the store', facts.object?.value?.clock, clockReason(facts)),
  ]
}

/** The first failure before a step that was not done. */
function earlier({ get, list, location, put }: StorageFacts): string {
  if (put?.error) return 'no object can be stored'
  if (get?.error) return 'no object can be read'
  return list.error ? `${location} cannot be listed` : `${location} could not be asked`
}

function finding(
  id: CheckId,
  facts: StorageFacts,
  answer: Attempt<unknown> | undefined,
  action: string,
  good: string,
): Finding {
  if (!answer) return skipped(id, earlier(facts))
  return answer.error ? failed(id, answer.error, ...denialSteps(facts, answer.error, action)) : ok(id, good)
}

/** What mends a denial: a statement of a policy, or the mode of a directory. */
function denialSteps({ bucket, location }: StorageFacts, error: WalrxError, action: string): Step[] {
  if (!bucket) return directorySteps(location, error)
  if (!isDeniedByPolicy(error)) return unansweredSteps(bucket, error)
  const isOfBucket = action.startsWith('s3:ListBucket')
  const path = bucket.folder === '' ? '*' : `${bucket.folder}/*`
  const Resource = `arn:aws:s3:::${bucket.name}${isOfBucket ? '' : `/${path}`}`
  return [{ run: 'policy', text: JSON.stringify({ Effect: 'Allow', Action: action, Resource }) }]
}

/** What mends the rest, where the error itself has no words for it. */
function unansweredSteps({ endpoint, name }: BucketPlace, error: WalrxError): Step[] {
  if (codeOf(error.cause) === 'NoSuchBucket') {
    const aws = endpoint === undefined ? 'aws' : `aws --endpoint-url ${shellWord(endpoint)}`
    return [
      words('correct the name in WALG_S3_PREFIX, or create the bucket:'),
      here(`${aws} s3 mb ${shellWord(`s3://${name}`)}`),
    ]
  }
  if (error.code !== 'WALRX_STORAGE_UNAVAILABLE' || error.hint !== undefined) return []
  const where = endpoint === undefined ? 'AWS in this region' : endpoint
  return [
    words(`check that a store of S3 answers at ${where} (AWS_ENDPOINT), and the firewalls and the proxy on the way`),
  ]
}

function directorySteps(location: string, error: WalrxError): Step[] {
  const root = /^the archive directory (.+) does not exist$/.exec(error.message)?.[1]
  if (error.code === 'WALRX_STORAGE_MISSING' && root !== undefined) {
    return [words('mount its file system if it has one, else:'), here(`mkdir -p ${shellWord(root)}`)]
  }
  const { code } = (error.cause ?? {}) as { readonly code?: unknown }
  // Root needs no chown: then something else forbids it.
  if ((code !== 'EACCES' && code !== 'EPERM') || process.getuid?.() === 0) return []
  return [here(`sudo chown -R "$(id -un)" ${shellWord(location.replace(/^file:\/\//, ''))}`)]
}

function getFinding(facts: StorageFacts): Finding {
  if (facts.get?.value !== false)
    return finding('storage.get', facts, facts.get, 's3:GetObject', 'it is read back as it was written')
  const text = `an object at ${facts.location} was read back with other bytes than were written`
  return failure(
    'storage.get',
    4,
    text,
    words('do not archive there: something between walrx and the store changes what it stores'),
  )
}

/** Where the probe failed as a whole, the finding of listings has the reason. */
function conditionalPut(facts: StorageFacts): Finding {
  const id = 'storage.conditional_put'
  const { location, traits } = facts
  if (!traits?.value) return skipped(id, traits?.error?.message ?? earlier(facts))
  if (traits.value.conditionalPut) return ok(id, 'an object that is there is not replaced')
  return warning(
    id,
    `${location} replaces an object in spite of If-None-Match: *, which S3 refuses: two receivers of one archive could overwrite each other`,
    words('run only one receiver for this archive, or use a store that knows conditional puts'),
  )
}

function listing(facts: StorageFacts): Finding {
  const id = 'storage.listing'
  const { traits } = facts
  if (!traits) return skipped(id, earlier(facts))
  if (traits.error) return failed(id, traits.error)
  const { listingProblem } = traits.value
  if (listingProblem === undefined) return ok(id, 'listings begin after any key, and their pages are complete')
  const text = `listings are not as S3 promises: ${listingProblem}; walrx lists in another way there, with more requests`
  return warning(id, text, words('see "What a store must be able to do" in docs/operations.md'))
}

function bucketFindings(facts: StorageFacts): Finding[] {
  const ids: CheckId[] = ['storage.multipart', 'storage.abort']
  if (!facts.bucket) return ids.map((id) => skipped(id, 'the archive is a directory'))
  const { abort, multipart, unfinished } = facts
  const multipartFinding = finding('storage.multipart', facts, multipart, 's3:PutObject', 'a multipart upload works')
  if (multipart?.error || !abort)
    return [
      multipartFinding,
      skipped('storage.abort', multipart?.error ? 'there are no multipart uploads' : earlier(facts)),
    ]
  const steps = [
    ...(abort.error ? denialSteps(facts, abort.error, 's3:AbortMultipartUpload') : []),
    ...(unfinished?.error ? denialSteps(facts, unfinished.error, 's3:ListBucketMultipartUploads') : []),
  ]
  const error = abort.error ?? unfinished?.error
  if (!error) return [multipartFinding, ok('storage.abort', 'unfinished uploads can be listed and aborted')]
  const text = `unfinished uploads stay in the bucket, invisible and paid for: ${error.message}`
  const lifecycle = words('or let a lifecycle rule of the bucket abort incomplete multipart uploads')
  return [multipartFinding, warning('storage.abort', text, ...steps, lifecycle)]
}

function removal(facts: StorageFacts): Finding {
  const id = 'storage.delete'
  const { remove } = facts
  if (!remove?.error) return finding(id, facts, remove, 's3:DeleteObject', 'an object can be removed')
  const { object } = facts
  if (object?.value?.lockedUntilMs !== undefined) return note(id, `objects are locked: ${remove.error.message}`)
  const steps = denialSteps(facts, remove.error, 's3:DeleteObject')
  const text = `no object can be removed, so walrx delete fails, and chunks of tails stay: ${remove.error.message}`
  return warning(id, text, ...(steps.length > 0 ? steps : [words(remove.error.hint ?? 'allow the removal of objects')]))
}

function objectFindings(facts: StorageFacts): Finding[] {
  const ids: CheckId[] = ['storage.versions', 'storage.object_lock']
  if (!facts.bucket) return ids.map((id) => skipped(id, 'the archive is a directory'))
  const { object } = facts
  if (!object?.value) return ids.map((id) => skipped(id, object?.error?.message ?? earlier(facts)))
  const { hasVersions, lockedUntilMs } = object.value
  const rule = words(
    'let a lifecycle rule of the bucket expire noncurrent versions, or what walrx deletes is kept and paid for',
  )
  const until = lockedUntilMs === undefined ? '' : new Date(lockedUntilMs).toISOString()
  return [
    hasVersions === true
      ? note('storage.versions', 'the bucket keeps the versions of objects: what is removed is hidden, and stays', rule)
      : ok('storage.versions', 'the bucket keeps no versions'),
    lockedUntilMs === undefined
      ? ok('storage.object_lock', 'new objects have no lock, or none that this key may see')
      : note(
          'storage.object_lock',
          `new objects are locked, this one until ${until}: chunks of tails and deleted backups stay so long`,
          words('see "Locked objects" in docs/operations.md'),
        ),
  ]
}

function clockReason(facts: StorageFacts): string {
  if (facts.object?.value) return 'the store does not say its time'
  return facts.object?.error?.message ?? earlier(facts)
}
