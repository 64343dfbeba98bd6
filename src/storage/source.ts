/** The caller's side of a streamed put: its failures are the caller's own, not the storage's. */
import { abortable } from './abortable.ts'
import type { StorageBody } from './storage.ts'

/** Carries a failure of the caller's stream through a put, past the place where storage errors are explained. */
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
 * The chunks of a body, one after the other. A body that waits for ever doesn't hold up an abort.
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
    // Not awaited: a body that is stuck in next() takes its return() only after that.
    if (!ended) iterator.return?.()?.catch(() => {})
  }
}
