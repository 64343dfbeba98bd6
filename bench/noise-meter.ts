/**
 * Measures how much of the machine other processes used during a measurement: figures from a busy machine mean little
 * without this.
 */
import { readFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { endedChildrenCpu, processCpu } from './process-sampler.ts'
import { median } from './statistics.ts'

/** What others had of all cores, 0 to 1. */
export interface Noise {
  /** Processes that are not ours. */
  readonly otherShare: number
  /** The hypervisor, for other machines. */
  readonly stolenShare: number
}

/** Begun before a measurement, read after it. */
export class NoiseMeter {
  readonly #startedAtMs = performance.now()
  readonly #before = machineCpu()
  readonly #ownBefore: number
  readonly #serverPid: number

  /** @param serverPid the postmaster that the measurement uses */
  constructor(serverPid: number) {
    this.#serverPid = serverPid
    this.#ownBefore = this.#own()
  }

  /** The shares since the start; the bench's own processes must have ended, except for the server. */
  read(): Noise {
    const capacity = ((performance.now() - this.#startedAtMs) / 1000) * availableParallelism()
    const { busy, stolen } = machineCpu()
    const others = busy - this.#before.busy - (this.#own() - this.#ownBefore)
    return {
      otherShare: Math.max(0, others) / capacity,
      stolenShare: (stolen - this.#before.stolen) / capacity,
    }
  }

  #own(): number {
    return processCpu(process.pid) + endedChildrenCpu('self') + endedChildrenCpu(this.#serverPid)
  }
}

/** A share as a percentage. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(0)} %`
}

/** A sentence on the other processes' share during some measurements, after a space; '' for none. */
export function describeNoise(noises: readonly Noise[]): string {
  if (noises.length === 0) return ''
  const others = noises.map(({ otherShare }) => otherShare)
  const stolen = noises.map(({ stolenShare }) => stolenShare)
  return (
    ` During the runs other processes had ${percent(median(others))} of the CPU (at most ${percent(Math.max(...others))}), ` +
    `the hypervisor took ${percent(median(stolen))} (at most ${percent(Math.max(...stolen))}).`
  )
}

/** CPU seconds of the whole machine since it started: spent on processes, and taken by the hypervisor. */
function machineCpu(): { busy: number; stolen: number } {
  const [line = ''] = readFileSync('/proc/stat', 'latin1').split('\n')
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, stolen = 0] = line.split(/\s+/).slice(1).map(Number)
  return { busy: (user + nice + system + irq + softirq) / 100, stolen: stolen / 100 }
}
