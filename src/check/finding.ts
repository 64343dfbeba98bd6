/** What a check has found: a level, one sentence with what is and what should be, and the steps that mend it. */
import type { WalrxError } from '../primitives/errors.ts'
import type { CheckId } from './check-table.ts'

/**
 * How bad it is.
 * - `ok`: as it should be
 * - `note`: works, and is worth knowing
 * - `warning`: works now, and may not on a bad day
 * - `error`: the receiver or a backup does not work, or WAL will be lost
 * - `skipped`: not known, for the reason that is given
 */
export type FindingLevel = 'ok' | 'note' | 'warning' | 'error' | 'skipped'

/** One step of a remedy. It works when it is pasted where `run` says. */
export interface Step {
  /**
   * - `sql`: as a superuser of the server
   * - `server`: in a shell on the server's machine, as the server's user
   * - `here`: in a shell on this machine, as the user of walrx
   * - `policy`: a statement in JSON, for the policy of the access key or of the bucket
   * - `setting`: a flag for the calls of walrx, in place of one that is there
   * - `do`: words, where no command does it
   */
  readonly run: 'sql' | 'server' | 'here' | 'policy' | 'setting' | 'do'
  readonly text: string
}

/** See the file's header. */
export interface Finding {
  readonly id: CheckId
  readonly level: FindingLevel
  /** One sentence without a full stop. Of a skipped check the reason. */
  readonly text: string
  /** In the order in which they are done; empty where nothing has to be done. */
  readonly steps: readonly Step[]
  /** The exit status that a command ends with that meets this: of errors only. */
  readonly exitStatus?: number
}

/** All is as it should be. */
export function ok(id: CheckId, text: string): Finding {
  return { id, level: 'ok', text, steps: [] }
}

/** Not known, for a reason. */
export function skipped(id: CheckId, reason: string): Finding {
  return { id, level: 'skipped', text: reason, steps: [] }
}

/** Works, and is worth knowing. */
export function note(id: CheckId, text: string, ...steps: Step[]): Finding {
  return { id, level: 'note', text, steps }
}

/** Works now, and may not on a bad day. */
export function warning(id: CheckId, text: string, ...steps: Step[]): Finding {
  return { id, level: 'warning', text, steps }
}

/** @param exitStatus that a command ends with that meets it */
export function failure(id: CheckId, exitStatus: number, text: string, ...steps: Step[]): Finding {
  return { id, level: 'error', text, steps, exitStatus }
}

/** A thrown error as a finding: its hint is the step where none is given. */
export function failed(id: CheckId, error: WalrxError, ...steps: Step[]): Finding {
  const hint: Step[] = error.hint === undefined ? [] : [{ run: 'do', text: error.hint }]
  // What reads its own status out of it is PostgreSQL; here the archive contradicts itself.
  const exitStatus = [74, 126].includes(error.exitStatus) ? 5 : error.exitStatus
  return failure(id, exitStatus, error.message.replace(/\s*\n\s*/g, ' '), ...(steps.length > 0 ? steps : hint))
}

/** SQL of a superuser. */
export function sql(text: string): Step {
  return { run: 'sql', text }
}

/** Words. */
export function words(text: string): Step {
  return { run: 'do', text }
}

/** A flag of walrx. */
export function setting(text: string): Step {
  return { run: 'setting', text }
}

/** A command on the server's machine. */
export function onServer(text: string): Step {
  return { run: 'server', text }
}

/** A command on this machine. */
export function here(text: string): Step {
  return { run: 'here', text }
}
