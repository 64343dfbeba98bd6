/** Faults of an S3 server by a seed: any status, body, delay and cut, and a store with odd habits. */
import type { S3Fault } from '../harness/store/faulty-s3/faulty-s3.ts'
import type { S3Traits } from '../harness/store/faulty-s3/s3-objects.ts'
import type { S3Request } from '../harness/store/faulty-s3/s3-request.ts'
import type { Random } from '../harness/random.ts'

const html = '<html><head><title>503</title></head><body>Service Unavailable</body></html>'
const slowDown = '<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>'

/** What a store, or a proxy before it, answers on a bad day. Whatever it is, the next request may pass. */
function drawFault(random: Random, { action }: S3Request): S3Fault {
  const drawn = random.int(0, 11)
  if (drawn < 3)
    return { kind: 'answer', status: random.pick([500, 502, 503, 504]), body: random.pick([slowDown, html, '']) }
  if (drawn === 3) return { kind: 'answer', status: 400, body: random.pick([html, '', '<Error><Code>Sl']) }
  if (drawn === 4) return { kind: 'answer', status: random.pick([408, 429]), body: html }
  if (drawn === 5) return { kind: 'late', ms: random.int(5, 400) }
  if (drawn === 6 || drawn === 7) return { kind: 'lost' }
  if (drawn === 8) return { kind: 'refuse' }
  if (drawn === 9) return { kind: 'answer', status: 404, body: html }
  // A page of a proxy in place of the answer, as if all were well. A HEAD has no body that could show it.
  if (drawn === 10 && action !== 'HeadObject') {
    return { kind: 'answer', status: 200, body: html, headers: { 'content-type': 'text/html' } }
  }
  return { kind: 'cut', bytes: random.int(0, 5000) }
}

/** A schedule: each request fails with this probability. */
export function drawSchedule(random: Random, rate: number): (request: S3Request) => S3Fault | undefined {
  return (request) => (random.chance(rate) ? drawFault(random, request) : undefined)
}

/** Habits of a store that last. */
export function drawTraits(random: Random): Partial<S3Traits> {
  return {
    conditionalPut: random.chance(0.6),
    pageSize: random.pick([2, 7, 1000]),
    startAfter: random.pick(['right', 'right', 'empty', 'ignored'] as const),
    wantsChecksums: random.chance(0.2),
  }
}
