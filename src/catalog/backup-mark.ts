/**
 * Marks backups as ones to keep, or as ones that may go. WAL-G reads and writes `is_permanent` of metadata.json, WAL-RUS
 * `IsPermanent` of the sentinel; walrx keeps what either says. metadata.json is always written. A sentinel that is
 * written again becomes the newest object, which is what LATEST means to all three, so it is written only where that
 * changes nothing, or on request together with all newer ones (`sentinel-order.ts`).
 */
import { WalrxError } from '../primitives/errors.ts'
import { metadataOf } from '../walg/backup/backup-metadata.ts'
import { listInOrder } from './backup-order.ts'
import {
  type BackupDetail,
  isPermanent,
  type Permanence,
  readDetails,
  selectBackup,
  type SelectedBackup,
} from './backups.ts'
import { type LinkedBackup, linkOf } from './chains.ts'
import { finishSentinelOrder, type SentinelOrder, type SentinelWriting, writeSentinelOrder } from './sentinel-order.ts'

/** What is known of a backup before it is marked. */
export interface MarkableBackup extends LinkedBackup {
  readonly permanence: Permanence
  /** Why one of its documents cannot be read, where one cannot. */
  readonly problem: WalrxError | undefined
}

/** What is asked for. */
export interface MarkRequest {
  /** A name, or LATEST. */
  readonly name: string
  readonly permanent: boolean
  /** True: write every sentinel that must say it, and put newer ones again so that their order stays. */
  readonly rewriteSentinels: boolean
}

/** What will be done, in this order. */
export interface MarkPlan {
  /** Backups that get their metadata.json written, parents first. */
  readonly metadata: readonly string[]
  /** Backups that get their sentinel written, with the new mark or as it is. */
  readonly sentinels: SentinelOrder
  /** Backups with a sentinel that says something else and stays. */
  readonly left: readonly string[]
}

/** What was done. */
export interface MarkOutcome extends MarkPlan {
  /** The backup that was meant. */
  readonly backup: SelectedBackup
  /** What an earlier backup-mark had begun and not ended, and this one has. */
  readonly finished: SentinelOrder | undefined
}

/**
 * Marks a backup.
 * @throws what {@link planMark} throws, before anything is written; what the storage says
 */
export async function markBackup(writing: SentinelWriting, request: MarkRequest): Promise<MarkOutcome> {
  const { archive, signal } = writing
  const options = signal && { signal }
  // First of all: until that is finished, LATEST may be another one.
  const finished = await finishSentinelOrder(writing)
  const backup = await selectBackup(archive, request.name, options)
  const details = await readDetails(archive, await listInOrder(archive, options), options)
  const plan = planMark(details.map(markable), { ...request, name: backup.name })
  for (const name of plan.metadata) {
    const metadata = await archive.readMetadata(name, options)
    const kept = metadata ?? metadataOf(await archive.readSentinel(name, options))
    await archive.putMetadata(name, { ...kept, isPermanent: request.permanent }, options)
  }
  await writeSentinelOrder(writing, plan.sentinels)
  return { ...plan, backup, finished }
}

function markable(detail: BackupDetail): MarkableBackup {
  return { ...linkOf(detail), permanence: detail.permanence, problem: detail.problems[0] }
}

/**
 * Plans a mark. Marking takes the ancestors along, without which a delta is nothing; clearing takes the backup alone.
 * @param inOrder all backups, the oldest first
 * @throws WALRX_BACKUP_NOT_FOUND for the backup or an ancestor; WALRX_MARK_REFUSED to clear what a permanent delta
 * builds on, or what its sentinel would still keep
 */
export function planMark(inOrder: readonly MarkableBackup[], request: MarkRequest): MarkPlan {
  const { name, permanent, rewriteSentinels } = request
  const byName = new Map(inOrder.map((backup) => [backup.name, backup]))
  const marked = permanent ? ancestry(byName, name) : [mustFind(byName, name)]
  if (!permanent) refuseNeeded(inOrder, name)
  const differing = marked.filter(({ permanence }) => (permanence.inSentinel ?? false) !== permanent)
  const first = inOrder.findIndex((backup) => differing.includes(backup))
  const affected = first === -1 ? [] : inOrder.slice(rewriteSentinels ? first : -1)
  const written = affected.filter((backup) => differing.includes(backup))
  const left = differing.filter((backup) => !written.includes(backup))
  if (!permanent && left.length > 0) throw keptBySentinel(name)
  return {
    metadata: marked.filter(({ permanence }) => permanence.inMetadata !== permanent).map(nameOf),
    sentinels: {
      known: inOrder.map(nameOf),
      names: written.length === 0 ? [] : affected.map(nameOf),
      marked: written.map(nameOf),
      permanent,
    },
    left: left.map(nameOf),
  }
}

const nameOf = ({ name }: MarkableBackup) => name

function mustFind(byName: ReadonlyMap<string, MarkableBackup>, name: string): MarkableBackup {
  const found = byName.get(name)
  if (!found) throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `there is no backup "${name}"`)
  if (found.problem) throw found.problem
  return found
}

/** The backup and all that it builds on, the full one first. */
function ancestry(byName: ReadonlyMap<string, MarkableBackup>, name: string): MarkableBackup[] {
  const chain: MarkableBackup[] = []
  let next: string | undefined = name
  while (next !== undefined) {
    const child = chain[0]
    if (child && !byName.has(next)) {
      throw new WalrxError('WALRX_BACKUP_NOT_FOUND', `${child.name} builds on ${next}, which is not in the archive`, {
        hint: 'this delta cannot be restored: there is nothing to keep',
      })
    }
    const found = mustFind(byName, next)
    if (chain.includes(found)) {
      throw new WalrxError(
        'WALRX_OBJECT_DAMAGED',
        `the sentinels of ${name} and ${next} say that each builds on the other`,
      )
    }
    chain.unshift(found)
    next = found.parentName
  }
  return chain
}

/** Any backup with a sentinel that cannot be read might be the delta that needs this one. */
function refuseNeeded(inOrder: readonly MarkableBackup[], name: string): void {
  for (const backup of inOrder) {
    if (backup.problem && (!backup.isParentKnown || backup.parentName === name)) throw backup.problem
    if (backup.parentName === name && isPermanent(backup.permanence)) {
      throw new WalrxError('WALRX_MARK_REFUSED', `${backup.name} is permanent and builds on ${name}`, {
        hint: `clear that one first: walrx backup-mark --impermanent ${backup.name}`,
      })
    }
  }
}

function keptBySentinel(name: string): WalrxError {
  return new WalrxError(
    'WALRX_MARK_REFUSED',
    `the sentinel of ${name} says that it is permanent, and it is not the newest`,
    {
      hint: 'writing it again would make it LATEST; --rewrite-sentinels writes it, and then writes all newer ones again',
    },
  )
}
