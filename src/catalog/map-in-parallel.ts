/** Small requests side by side: a list of a thousand backups is two thousand of them, each a round trip. */

/** How many are under way at a time: far below what any store limits, and most of the waiting is gone. */
const parallelMax = 16

/**
 * The results in the order of the items. The first failure ends it; it waits for what is under way then, and begins nothing new.
 * @param atMost how many are under way at a time
 */
export async function mapInParallel<T, R>(
  items: readonly T[],
  map: (item: T) => Promise<R>,
  atMost: number = parallelMax,
): Promise<R[]> {
  const results: R[] = []
  const queue = items.entries()
  let isFailed = false
  const work = async () => {
    for (const [index, item] of queue) {
      if (isFailed) return
      try {
        results[index] = await map(item)
      } catch (error) {
        isFailed = true
        throw error
      }
    }
  }
  const ends = await Promise.allSettled(Array.from({ length: Math.min(atMost, items.length) }, work))
  for (const end of ends) if (end.status === 'rejected') throw end.reason
  return results
}
