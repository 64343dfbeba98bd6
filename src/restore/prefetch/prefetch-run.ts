/** The prefetcher process: it takes over the folder that wal-fetch created for it, works, and removes it. */
import type { FSWatcher } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { isRecovering, runningProcess } from '../wal/recovery-process.ts'
import { type PrefetchEnd, Prefetcher, type PrefetcherOptions, watchFolder } from './prefetcher.ts'
import { ReadyFolder } from './ready-folder.ts'

/** Options of {@link runPrefetcher}: those of the prefetcher that don't follow from its folder. */
export interface PrefetchRunOptions extends Omit<
  PrefetcherOptions,
  'folder' | 'address' | 'isRecovering' | 'freeBytes'
> {
  /** Path of the ready folder. */
  readonly folder: string
}

/**
 * Runs a prefetcher until its end, then removes its folder.
 * @returns `not ours` when the folder is missing, or belongs to another process
 */
export async function runPrefetcher(options: PrefetchRunOptions): Promise<PrefetchEnd | 'not ours'> {
  const folder = new ReadyFolder(options.folder)
  const owner = await folder.owner()
  const self = runningProcess(process.pid)
  if (!owner || !self) return 'not ours'
  // The process that started us may not have handed the folder over yet.
  if (owner.prefetcher.pid !== self.pid && owner.prefetcher.pid !== self.parentPid) return 'not ours'
  const { recovery } = owner
  await folder.setPrefetcher(owner, self)
  let watcher: FSWatcher | undefined
  try {
    const prefetcher = new Prefetcher({
      ...options,
      folder,
      address: owner.channel,
      isRecovering: () => isRecovering(recovery),
      freeBytes: async () => {
        const { bavail, bsize } = await statfs(folder.path)
        return bavail * bsize
      },
    })
    // The server's stop. The next program may be pg_rewind, which fails when files vanish while it works.
    watcher = watchFolder(folder.dataDir, (name) => name === 'postmaster.pid' && prefetcher.lookAgain())
    return await prefetcher.run()
  } finally {
    watcher?.close()
    if ((await folder.owner())?.prefetcher.pid === self.pid) await folder.remove()
  }
}
