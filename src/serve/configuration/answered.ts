/** Waits a bounded time for a file system: one that does not answer must not hold up all clusters. */

/** How long, in milliseconds. */
const answerMs = 5_000

/** Each call that hangs keeps one of the four threads that all files and names of hosts share. */
const hangingMax = 2

const hanging = new Set<Promise<unknown>>()

/** What did not answer, for a mistake. */
export const noAnswerText = `did not answer within ${answerMs / 1000} s`

/** A file system that did not answer. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError'

  constructor() {
    super(noAnswerText)
  }
}

/**
 * The result of `work`. While two earlier ones hang, it is not begun.
 * @throws NoAnswerError; what `work` throws
 */
export async function answered<T>(work: () => Promise<T>, limitMs = answerMs): Promise<T> {
  if (hanging.size >= hangingMax) throw new NoAnswerError()
  const { promise: late, reject } = Promise.withResolvers<never>()
  const result = work()
  const settle = () => hanging.delete(result)
  result.then(settle, settle)
  const timer = setTimeout(() => {
    hanging.add(result)
    reject(new NoAnswerError())
  }, limitMs)
  try {
    return await Promise.race([result, late])
  } finally {
    clearTimeout(timer)
  }
}
