/**
 * Copies tails: what the archive has of segments that are not whole yet. A receiver may be writing them: a chunk that
 * vanishes was replaced by a larger one, or its segment is whole now. Then the new WAL is copied first, and the tails are
 * looked at again. Chunks go in their order, so that after any end the copy has the tail without a hole.
 */
import type { Storage } from '../storage/storage.ts'
import { hasCode } from '../primitives/errors.ts'
import { listTails, type SegmentTail } from '../walg/wal/tail-reader.ts'
import { WalReader } from '../walg/wal/wal-reader.ts'
import type { Mover } from './mover.ts'
import type { WalScope } from './scope/wal-scope.ts'

/** What {@link copyTails} needs. */
export interface TailCopy {
  readonly source: Storage
  readonly target: Storage
  readonly scope: WalScope
  readonly mover: Mover
  readonly signal: AbortSignal
  /** Copies the WAL that has come since. */
  readonly copyNewWal: () => Promise<void>
}

/** How often it looks again. A receiver replaces chunks once in several seconds. */
const attemptsMax = 10

/**
 * Copies the tails of a scope.
 * @returns false where chunks vanished in every attempt: the copy may lack the last moments
 */
export async function copyTails(copy: TailCopy): Promise<boolean> {
  let isWhole = false
  for (let attempt = 0; !isWhole && attempt < attemptsMax; attempt++) {
    if (attempt > 0) await copy.copyNewWal()
    isWhole = await copyOnce(copy)
  }
  await removeOutdated(copy)
  return isWhole
}

async function copyOnce({ mover, scope, signal, source, target }: TailCopy): Promise<boolean> {
  const known = new Set<string>()
  for await (const tail of listTails(target, undefined, { signal })) for (const { key } of tail.chunks) known.add(key)
  for await (const tail of listTails(source, undefined, { signal })) {
    if (!scope.has(tail.segment)) continue
    for (const chunk of tail.chunks) {
      if (!known.has(chunk.key) && (await mover.move(chunk)) === 'vanished') return false
    }
  }
  return true
}

/** Chunks of the copy whose segment is whole: nothing reads them, and no receiver is there to remove them. */
async function removeOutdated({ signal, source, target }: TailCopy): Promise<void> {
  const reader = new WalReader(target)
  const isInSource = new Set<string>()
  for await (const { segment } of listTails(source, undefined, { signal })) isInSource.add(segment)
  const outdated: SegmentTail[] = []
  for await (const tail of listTails(target, undefined, { signal }))
    if (!isInSource.has(tail.segment)) outdated.push(tail)
  for (const { chunks, segment } of outdated) {
    if (!(await reader.has(segment, { signal }))) continue
    try {
      await target.delete(
        chunks.map(({ key }) => key),
        { signal },
      )
    } catch (error) {
      // A key that may not delete is a good one for a copy.
      if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
      return
    }
  }
}
