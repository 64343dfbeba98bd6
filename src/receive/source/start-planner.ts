/** Remembers how the last run ended, and chooses where the next one begins. */
import type { Logger } from '../../observe/log.ts'
import type { Lsn } from '../../postgres/lsn.ts'
import type { ReceiveArchive } from '../ports.ts'
import type { PreparedSource } from './prepared-source.ts'
import { describePosition, planStart, positionAfter, type SettledRun, type StartPosition } from './start-position.ts'

/** What {@link StartPlanner} needs. */
export interface StartPlannerOptions {
  readonly archive: ReceiveArchive
  readonly log: Logger
  /** How many segments before the newest archived one a hole may lie that a killed receiver left. */
  readonly holeWindow: number
}

/** See the file's header. */
export class StartPlanner {
  readonly #options: StartPlannerOptions
  #settled: SettledRun | undefined
  #resumeAt: StartPosition | undefined
  /** Where to go on if the server lacks WAL at {@link #resumeAt}. */
  #resumeFallback: StartPosition | undefined
  #fallback: StartPosition | undefined

  constructor(options: StartPlannerOptions) {
    this.#options = options
  }

  /** True when the next run goes on where the last one ended, if nothing else is said. */
  get hasSettled(): boolean {
    return this.#settled !== undefined
  }

  /** The run before is settled, and ended there. */
  settledAt(run: SettledRun): void {
    this.#settled = run
  }

  /** Where the run before ended does not matter: slot and archive say where the next one begins. */
  forget(): void {
    this.#settled = undefined
  }

  /**
   * The next run begins there, without a plan: after a gap, or where bytes are compared.
   * @param fallback where to go on if the server lacks WAL there; default nowhere
   */
  resumeAt(position: StartPosition, fallback?: StartPosition): void {
    this.#resumeAt = position
    this.#resumeFallback = fallback
    this.#fallback = fallback
  }

  /** The run has begun that was to begin where {@link resumeAt} said. */
  begun(): void {
    this.#resumeAt = undefined
    this.#resumeFallback = undefined
  }

  /** Where to go on if the server lacks WAL at the last start that was planned; undefined where that is not after `lsn`. */
  fallbackAfter(lsn: Lsn): StartPosition | undefined {
    return this.#fallback && this.#fallback.startLsn > lsn ? this.#fallback : undefined
  }

  /**
   * Where the next run begins: where it is known, after what was settled, or by a new plan.
   * @throws the signal's reason, and what the archive says
   */
  async choose(source: PreparedSource, signal: AbortSignal): Promise<StartPosition> {
    const { archive, holeWindow, log } = this.#options
    const known = this.#resumeAt ?? (this.#settled && positionAfter(this.#settled, source))
    this.#fallback = this.#resumeAt && this.#resumeFallback
    if (known) return known
    const isSlotNew = source.slotState === 'missing' || source.slotState === 'useless'
    const plan = await planStart({ ...source, isSlotNew, holeWindow }, archive, signal)
    const fallback = plan.fallback && describePosition(plan.fallback)
    log.info('start position chosen', { ...describePosition(plan), reason: plan.reason, fallback })
    this.#fallback = plan.fallback
    return plan
  }
}
