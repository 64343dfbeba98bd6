/** Whether a backup stays, why, and with which WAL. */
import type { ArchivedBackup } from '../contents/archived-backup.ts'

/**
 * Which WAL stays for a backup: all from its start on (`onwards`), or what it needs to be consistent (`own`), after which
 * its recovery ends.
 */
export type WalExtent = 'onwards' | 'own'

/** The decision about one backup. */
export type Choice = { readonly backup: ArchivedBackup; readonly reason: string } & (
  { readonly action: 'keep'; readonly wal: WalExtent } | { readonly action: 'delete' }
)

/** Backups that stay, with reasons; the first reason of a backup is the one that shows. */
export class Keeping {
  readonly #kept = new Map<string, { reason: string; wal: WalExtent }>()

  /** Keeps a backup. More WAL wins over less. */
  keep({ name }: ArchivedBackup, wal: WalExtent, reason: string): void {
    const known = this.#kept.get(name)
    if (!known) this.#kept.set(name, { reason, wal })
    else if (wal === 'onwards') known.wal = wal
  }

  /** What was decided; undefined for a backup that nothing keeps. */
  of({ name }: Pick<ArchivedBackup, 'name'>): { readonly reason: string; readonly wal: WalExtent } | undefined {
    return this.#kept.get(name)
  }
}
