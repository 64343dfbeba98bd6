/** The keys at the start of a service: where what they come from is out, it is waited for as a bucket is. */
import { KeyCommandError } from '../config/keys/key-command.ts'
import type { Logger } from '../observe/log.ts'
import type { Clock } from '../primitives/clock.ts'
import { isKeyOutage } from '../primitives/errors.ts'
import { orAborted } from '../primitives/wait.ts'
import { untilStored } from '../receive/until-stored.ts'

/** What {@link untilKeysAnswer} needs. */
export interface KeyPatience {
  readonly clock: Clock
  /** Random number in [0, 1) for back-off jitter. */
  readonly random: () => number
  readonly log: Logger
  readonly signal: AbortSignal
}

/** As long as S3 is waited for at a start: see s3Defaults.retryTimeMaxMs. */
const patienceMs = 60_000

/**
 * Calls until the keys are there, as long as a service or a command that gives them fails in a way that may pass.
 * @param call is finished before it is called again
 * @throws what the call throws, of such failures the last one; the signal's reason
 */
export async function untilKeysAnswer<T>(call: () => Promise<T>, patience: KeyPatience): Promise<T> {
  const { clock, log, random, signal } = patience
  const deadlineMs = clock.now() + patienceMs
  return await untilStored(() => orAborted(call(), signal), {
    clock,
    random,
    firstMs: 500,
    maxMs: 10_000,
    signal,
    onFailure: (error) => log.warn('the keys are not there yet, trying again', { error }),
    isWorthRetrying: (error) => mayPass(error) && clock.now() < deadlineMs,
  })
}

function mayPass(error: unknown): boolean {
  return isKeyOutage(error) || (error instanceof KeyCommandError && error.mayPass)
}
