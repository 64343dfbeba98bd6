/** Why a backup is a full one although it might have been a delta: data for programs, a sentence for people. */

/**
 * What stood in the way.
 *
 *     asked      --full
 *     off        WALG_DELTA_MAX_STEPS is 0
 *     no-backup  there is none to build on
 *     steps      the chain has as many as are allowed
 *     permanent  the newest backup is permanent, and this one is not to be
 *     parent     the backup to build on is not known well enough, or belongs elsewhere
 *     server     the server cannot take increments, or refused to
 *     history    the server's WAL is not a continuation of what the parent ends with
 *     summaries  the server does not know which blocks have changed
 *     checksums  pages have checksums now, and those of the backup to build on may have none
 */
export type FullCode =
  'asked' | 'off' | 'no-backup' | 'steps' | 'permanent' | 'parent' | 'server' | 'history' | 'summaries' | 'checksums'

/** See the file's header. */
export interface FullReason {
  readonly code: FullCode
  /** Begins with lower case, and has no full stop. */
  readonly message: string
  /** What makes the next one a delta. */
  readonly hint?: string
}

/** True where a full backup is what the settings ask for, and no surprise. */
export function isExpected({ code }: FullReason): boolean {
  return ['asked', 'off', 'no-backup', 'steps', 'permanent'].includes(code)
}
