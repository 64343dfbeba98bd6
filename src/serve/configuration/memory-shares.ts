/** The memory for WAL, divided among the clusters. */
import { formatBytes } from '../../config/options/option-values.ts'
import type { ClusterPlan } from './cluster-plan.ts'
import type { Mistakes, Place } from './mistakes.ts'

const MiB = 1024 * 1024

/** Two segments of the size that initdb gives: how large a server's are is known once it is connected to. */
const shareBytesMin = 32 * MiB

/** A cluster gets no more than this without asking: what one stream needs at full rate, and to outlast a slow store. */
const shareBytesMax = 1024 * MiB

/**
 * Bytes for each cluster by its name. What the clusters with a share of their own leave is divided evenly among the others.
 * Notes at `place` what does not fit, with the numbers.
 */
export function divideMemory(
  plans: readonly Pick<ClusterPlan, 'memoryBytes' | 'name' | 'place'>[],
  totalBytes: number,
  place: Place,
  mistakes: Mistakes,
): Map<string, number> {
  const own = plans.reduce((sum, { memoryBytes = 0 }) => sum + memoryBytes, 0)
  const others = plans.filter(({ memoryBytes }) => memoryBytes === undefined).length
  const needed = own + others * shareBytesMin
  const left = totalBytes - own
  if (needed > totalBytes) {
    const parts = [
      ...(own > 0 ? [`${roundedText(own)} in shares of their own`] : []),
      ...(others > 0 ? [`${roundedText(shareBytesMin)} for each of ${others} others, which is two segments`] : []),
    ]
    const text = `memory is ${roundedText(totalBytes)}, and the clusters need ${roundedText(needed)}: ${parts.join(', and ')}`
    mistakes.add(place, text)
  }
  const even = Math.min(shareBytesMax, Math.floor(left / Math.max(1, others) / MiB) * MiB)
  return new Map(plans.map(({ memoryBytes, name }) => [name, memoryBytes ?? Math.max(shareBytesMin, even)]))
}

function roundedText(bytes: number): string {
  return formatBytes(Math.ceil(bytes / MiB) * MiB)
}
