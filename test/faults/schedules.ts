/** Many schedules, on as many threads as the machine has cores. */
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { openSimulatedArchive } from './simulated-archive.ts'
import type { ScheduleReport } from './schedule-report.ts'
import { World } from './world.ts'

/** What schedules did, summed up. */
export type Totals = Omit<ScheduleReport, 'seed'>

/** A schedule that failed. */
export interface FailedSchedule {
  readonly seed: number
  readonly error: Error
}

/** Seeds that a thread is given at a time. */
const batchSize = 10

/** Adds up. */
export function sum(totals: Totals[]): Totals {
  const [first, ...others] = totals
  if (!first) throw new Error('nothing was run')
  const result = { ...first }
  for (const other of others) for (const what of Object.keys(result) as (keyof Totals)[]) result[what] += other[what]
  return result
}

/**
 * Runs the schedules from the seed `first` on, on threads, until one fails.
 * @returns the totals, or the failed schedule of the least seed among those that were run
 */
export async function runOnThreads(
  first: number,
  count: number,
  isEncrypted = false,
): Promise<Totals | FailedSchedule> {
  let next = first
  const end = first + count
  const totals: Totals[] = []
  let failed: FailedSchedule | undefined
  const takeBatch = () => {
    if (failed || next >= end) return undefined
    const from = next
    next = Math.min(end, next + batchSize)
    return { from, to: next }
  }
  const onAnswer = (answer: Totals | FailedSchedule) => {
    if (!('seed' in answer)) totals.push(answer)
    else if (!failed || answer.seed < failed.seed) failed = answer
  }
  const threads = Math.min(availableParallelism(), Math.ceil(count / batchSize))
  await Promise.all(Array.from({ length: threads }, () => runThread(takeBatch, onAnswer, isEncrypted)))
  return failed ?? sum(totals)
}

function runThread(
  takeBatch: () => { from: number; to: number } | undefined,
  onAnswer: (answer: Totals | FailedSchedule) => void,
  isEncrypted: boolean,
): Promise<void> {
  // Schedules make little that lives and much that dies young.
  const resourceLimits = { maxYoungGenerationSizeMb: 64 }
  const worker = new Worker(new URL('schedule-worker.ts', import.meta.url), { resourceLimits })
  return new Promise((resolve, reject) => {
    const give = () => {
      const batch = takeBatch()
      if (batch) worker.postMessage({ ...batch, isEncrypted })
      else void worker.terminate().then(() => resolve(), reject)
    }
    worker.on('message', (answer: Totals | FailedSchedule) => {
      onAnswer(answer)
      give()
    })
    worker.once('error', reject)
    give()
  })
}

/**
 * Runs the schedules of the seeds `[from, to)` on this thread, until one fails.
 * @param open opens the archive of each; a test may break it
 */
export async function runHere(
  from: number,
  to: number,
  open?: typeof openSimulatedArchive,
  isEncrypted = false,
): Promise<Totals | FailedSchedule> {
  const { stackTraceLimit } = Error
  // Storms of failures are what schedules are made of, and the traces of all are thrown away.
  Error.stackTraceLimit = 0
  const totals: Totals[] = []
  try {
    for (let seed = from; seed < to; seed++) {
      const { seed: _, ...done } = await new World(seed, open, isEncrypted).run()
      totals.push(done)
    }
    return sum(totals)
  } catch (error) {
    return { seed: from + totals.length, error: error as Error }
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}
