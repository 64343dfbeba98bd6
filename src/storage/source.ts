/** The body of a streamed put: its failures are the caller's, not the storage's. */
import { abortable } from './abortable.ts'
import type { StorageBody } from './storage.ts'

/** Carries a failure of the caller's stream through a put, so that it is not translated into a storage error. */
export class SourceError extends Error {
  /** What the stream threw. */
  readonly error: unknown

  constructor(error: unknown) {
    super('the stream to be stored failed', { cause: error })
    this.name = 'SourceError'
    this.error = error
  }
}

/**
 * The chunks of a body, one after the other. An abort also ends the wait for a body that hangs.
 * @throws SourceError around what the body throws; the signal's reason
 */
export async function* readSource(body: StorageBody, signal?: AbortSignal): AsyncGenerator<Uint8Array, void> {
  if (body instanceof Uint8Array) {
    yield body
    return
  }
  const iterator = body[Symbol.asyncIterator]()
  let ended = false
  try {
    for (;;) {
      const result = await abortable(iterator.next(), signal).catch((error: unknown) => {
        ended = !signal?.aborted
        throw ended ? new SourceError(error) : error
      })
      if (result.done === true) {
        ended = true
        return
      }
      yield result.value
    }
  } finally {
    // Not awaited: a body that hangs in next() handles return() only afterwards.
    if (!ended) iterator.return?.()?.catch(() => {})
  }
}
