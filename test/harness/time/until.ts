/** Waits for changes without an event: files, processes. */
import { setTimeout as delay } from 'node:timers/promises'

/**
 * Resolves with the first result that is true.
 * @param what completes "gave up waiting for …"
 */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
  timeoutMs: number = 60_000,
): Promise<Exclude<T, undefined | null | false>> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    const result = await look()
    if (result) return result as Exclude<T, undefined | null | false>
    if (performance.now() > deadline) throw new Error(`gave up waiting for ${what} after ${timeoutMs} ms`)
    await delay(5)
  }
}
