/** Creates the replication slot where it is missing, and again where it keeps nothing. */
import type { Logger } from '../../observe/log.ts'
import type { Lsn } from '../../postgres/lsn.ts'
import type { ReplicationSession } from '../../postgres/protocol/session.ts'
import { WalrxError } from '../../primitives/errors.ts'

/**
 * How the slot was found. `missing` and `useless`: it was created just now, because there was none, or because it kept
 * nothing; no slot kept the WAL before its position. `none`: there is no slot, or none that can be read.
 */
export type SlotState = 'none' | 'found' | 'missing' | 'useless'

/** What {@link ensureSlot} needs. */
export interface EnsureSlotOptions {
  /** True when the server has shown that the slot keeps nothing: it is dropped, and created again. */
  readonly remakeSlot: boolean
  /** Whether nothing is archived yet: that the slot is missing is as it should be then. Asked where it is missing. */
  readonly isFirstStart: () => Promise<boolean>
  readonly log: Logger
}

/** What {@link ensureSlot} found or made. */
export interface EnsuredSlot {
  readonly restartLsn: Lsn | undefined
  readonly state: SlotState
}

/** Where the receiver streams without a slot, or none can be read. */
export const noSlot: EnsuredSlot = { restartLsn: undefined, state: 'none' }

/**
 * The slot's position, after creating the slot where it is missing, and again where it keeps nothing. Up to 17 the server
 * streams from a slot that it has invalidated as if nothing were wrong; 18 refuses, but shows a position where it was
 * invalidated for idleness. The server itself refuses to drop a slot that is in use.
 */
export async function ensureSlot(
  session: ReplicationSession,
  slot: string,
  { isFirstStart, log, remakeSlot }: EnsureSlotOptions,
): Promise<EnsuredSlot> {
  const found = await session.readSlot(slot)
  if (found.kind === 'logical') throw isLogical(slot, session.host)
  const isUseless = found.kind === 'physical' && found.restartLsn === undefined
  if (isUseless || (remakeSlot && found.kind !== 'missing')) {
    log.error('the server has invalidated the slot, which keeps no WAL: dropping the slot and creating it again', {
      slot,
      host: session.host,
    })
    await session.dropSlot(slot)
  } else if (found.kind === 'physical') return { restartLsn: found.restartLsn, state: 'found' }
  // Asked first: a slot that was made before a failure would be found at the next attempt.
  const level = found.kind === 'missing' && ((await isFirstStart()) ? 'info' : 'warn')
  await session.createSlot(slot)
  const hint = 'the archive has WAL already: if the server has removed some since, a gap is reported'
  if (level) log[level]('created the replication slot', { slot, host: session.host, ...(level === 'warn' && { hint }) })
  const made = await session.readSlot(slot)
  if (made.kind === 'logical') throw isLogical(slot, session.host)
  if (made.kind === 'unreadable') return noSlot
  if (made.kind === 'missing' || made.restartLsn === undefined) throw keepsNothing(slot, session.host)
  return { restartLsn: made.restartLsn, state: found.kind === 'missing' ? 'missing' : 'useless' }
}

function isLogical(slot: string, host: string): WalrxError {
  return new WalrxError('WALRX_SLOT_UNUSABLE', `slot "${slot}" on ${host} is logical`, {
    hint: 'walrx needs a physical slot: choose another name with WALG_SLOTNAME',
  })
}

/** Somebody else created the slot at the same moment, or invalidated the new one. */
function keepsNothing(slot: string, host: string): WalrxError {
  return new WalrxError('WALRX_SLOT_UNUSABLE', `slot "${slot}" on ${host} keeps no WAL right after it was created`, {
    hint: 'check that no other receiver uses the slot, and that max_slot_wal_keep_size is large enough',
    transient: true,
  })
}
