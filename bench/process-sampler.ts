/**
 * What a contender costs, seen from outside and in the same way for each: CPU time, peak resident memory and committed
 * memory of a process with everything below it. Linux only (/proc).
 */
import { readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'

/** Clock ticks per second in /proc (USER_HZ): 100 on every architecture that Node runs on. */
const ticksPerSecond = 100

/** How often memory is looked at. The peak is the kernel's own high-water mark, so this only bounds the last change. */
const sampleMs = 50

/** The map of a process is long to read: only every so many samples. */
const samplesPerCommitSample = 10

/** Peaks in bytes, summed over the processes of the tree. */
export interface MemoryPeaks {
  /** Of VmHWM: the most that was ever resident. */
  readonly rssBytes: number
  /** Of the sizes of mappings with flag `ac` in smaps: what the kernel has promised memory for. */
  readonly commitBytes: number
}

/**
 * CPU seconds, user and system, of the children that a process has waited for, with their own children: the difference
 * of two calls is the time of the children that ended in between. Exact to a hundredth, also for an ended child.
 */
export function endedChildrenCpu(pid: number | 'self'): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  // cutime and cstime are fields 16 and 17; the second field is a name in parentheses that may hold spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[13]) + Number(fields[14])) / ticksPerSecond
}

/** The CPU seconds of one living process, without its children. */
export function processCpu(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

/** Watches the memory of a process tree until stopped. */
export class MemorySampler {
  readonly #pid: number
  readonly #timer: NodeJS.Timeout
  #samples = 0
  #busy = false
  #rssBytes = 0
  #commitBytes = 0

  constructor(pid: number) {
    this.#pid = pid
    this.#timer = setInterval(() => void this.#sample(), sampleMs)
  }

  /** Ends the watch. */
  stop(): MemoryPeaks {
    clearInterval(this.#timer)
    return { rssBytes: this.#rssBytes, commitBytes: this.#commitBytes }
  }

  async #sample(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    try {
      const pids = await processTree(this.#pid)
      this.#rssBytes = Math.max(this.#rssBytes, await sum(pids, peakRss))
      if (this.#samples++ % samplesPerCommitSample === 0) {
        this.#commitBytes = Math.max(this.#commitBytes, await sum(pids, committed))
      }
    } finally {
      this.#busy = false
    }
  }
}

async function sum(pids: readonly number[], measure: (pid: number) => Promise<number>): Promise<number> {
  const values = await Promise.all(pids.map(measure))
  return values.reduce((total, value) => total + value, 0)
}

/** A process and everything below it; empty when it is gone. */
async function processTree(pid: number): Promise<number[]> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'latin1').catch(() => undefined)
  if (children === undefined) return []
  const below = await Promise.all(
    children
      .trim()
      .split(' ')
      .filter(Boolean)
      .map((child) => processTree(Number(child))),
  )
  return [pid, ...below.flat()]
}

async function peakRss(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'latin1').catch(() => '')
  return Number(/^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1] ?? 0) * 1024
}

async function committed(pid: number): Promise<number> {
  const smaps = await readFile(`/proc/${pid}/smaps`, 'latin1').catch(() => '')
  let total = 0
  let sizeKb = 0
  for (const line of smaps.split('\n')) {
    if (line.startsWith('Size:')) sizeKb = Number(/\d+/.exec(line)?.[0] ?? 0)
    else if (line.startsWith('VmFlags:') && / ac( |$)/.test(line)) total += sizeKb * 1024
  }
  return total
}
