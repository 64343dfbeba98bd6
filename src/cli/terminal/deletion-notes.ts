/** What a deletion has met in the storage: symbolic links of a directory, each once and no more than a few; versions of a bucket. */
import type { Logger } from '../../observe/log.ts'
import { shellWord } from '../../primitives/shell-word.ts'
import type { DeletionLinks, Storage } from '../../storage/storage.ts'

/** Links of a kind that are reported one by one. */
const shownMax = 20

/** See the file's header. */
export class LinkNotes implements DeletionLinks {
  readonly #log: Logger
  readonly #broken = new Set<string>()
  #removed = 0

  constructor(log: Logger) {
    this.#log = log
  }

  readonly onBroken = (path: string, target: string): void => {
    if (this.#broken.has(path) || this.#broken.size >= shownMax) return
    this.#broken.add(path)
    this.#log.warn('a symbolic link leads nowhere, and was passed over', {
      link: path,
      target,
      hint: `mount the file system of its target; if that is gone for good, remove the link: rm ${shellWord(path)}`,
    })
  }

  readonly onRemoved = (path: string, target: string): void => {
    if (++this.#removed > shownMax) return
    this.#log.warn('removed a symbolic link: what it leads to stays', { link: path, target })
  }

  /** Reports how many links were removed beyond those that were reported. */
  end(): void {
    const more = this.#removed - shownMax
    if (more > 0) this.#log.warn('removed more symbolic links: what they lead to stays', { links: more })
  }
}

/**
 * Reports that what was removed is hidden: a bucket with versions keeps it, and a lock of an object refuses nothing there,
 * because it is a lock of a version.
 */
export function reportVersions({ keepsVersions = false, location }: Storage, log: Logger): void {
  if (!keepsVersions) return
  log.warn(
    'the bucket keeps the versions of what was deleted: it is hidden, takes as much room, and can be had again',
    {
      location,
      hint: 'a lifecycle rule for noncurrent versions removes them, those with a lock when it has ended: docs/operations.md, Locked objects',
    },
  )
}

/** The storage as a deletion has to see it. */
export function forDeletion(storage: Storage, notes: LinkNotes): Storage {
  return storage.forDeletion?.(notes) ?? storage
}
