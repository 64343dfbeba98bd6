/**
 * `walrx_005/backups/<name>.json`: who is writing a backup. It is there before the first part and goes with the sentinel.
 * Its heartbeat shows that the writer lives; when the heartbeat has stopped, what the writer left may be removed.
 *
 * Ages are measured by the store's own clock (the time of our own intent against that of the other), because the clocks
 * of two hosts need not agree.
 */
import { randomUUID } from 'node:crypto'
import { isBuiltOn } from '../catalog/chains.ts'
import type { Clock, Timer } from '../primitives/clock.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { formatJson, type JsonValue } from '../primitives/json/json.ts'
import { BackupArchive } from '../walg/backup/backup-archive.ts'
import { backupFolder, intentKey, nameOfIntent, sentinelKey } from '../walg/backup/backup-names.ts'
import { expiryOf, type IntentContent, readIntent } from '../walg/backup/intent-document.ts'
import { storageTime } from '../walg/backup/storage-time.ts'
import { intentsPrefix } from '../walg/names.ts'
import { createDocument, putDocument } from '../walg/stored/stored-writer.ts'
import type { Storage } from '../storage/storage.ts'

/** How often the heartbeat is written. */
const heartbeatMs = 30_000

/** An intent of ours, kept alive until it is withdrawn. */
export class Intent {
  readonly name: string
  readonly #storage: Storage
  readonly #clock: Clock
  #content: IntentContent
  #timer: Timer | undefined
  #writing: Promise<void> = Promise.resolve()
  #isOver = false

  private constructor(storage: Storage, name: string, clock: Clock, content: IntentContent) {
    this.#storage = storage
    this.name = name
    this.#clock = clock
    this.#content = content
  }

  /**
   * Announces a backup. Removes what a dead writer has left under its name.
   * @throws WALRX_BACKUP_EXISTS when the name is taken: by a finished backup, by one that is being written, or by objects
   * of an unknown writer
   */
  static async announce(
    storage: Storage,
    name: string,
    hostname: string,
    clock: Clock,
    signal: AbortSignal,
  ): Promise<Intent> {
    if (await storage.head(sentinelKey(name), { signal })) {
      throw new WalrxError('WALRX_BACKUP_EXISTS', `${name} exists already at ${storage.location}`, {
        hint: 'a backup of a standby that starts at the same restartpoint has the same name: wait for its next one',
      })
    }
    const content = { owner: randomUUID(), hostname, startedAt: new Date(clock.now()).toISOString() }
    const intent = new Intent(storage, name, clock, content)
    try {
      await intent.#claim(signal)
    } catch (error) {
      // Else nobody could take a backup of this name for 15 minutes. It may be there though creating it failed.
      await intent.withdraw().catch(() => {})
      throw error
    }
    intent.#schedule()
    return intent
  }

  /** Takes over the intent of a backup that waits to be completed. */
  static async adopt(storage: Storage, name: string, content: IntentContent, clock: Clock): Promise<Intent> {
    const intent = new Intent(storage, name, clock, { ...content, owner: randomUUID() })
    await intent.#write()
    intent.#schedule()
    return intent
  }

  get content(): IntentContent {
    return this.#content
  }

  /**
   * Adds what is known meanwhile.
   * @throws WALRX_BACKUP_INCOMPLETE as {@link prove} does
   */
  async update(change: Partial<IntentContent>): Promise<void> {
    await this.prove()
    this.#content = { ...this.#content, ...change }
    const written = this.#writing.then(() => this.#write())
    // The heartbeat goes on whatever becomes of this.
    this.#writing = written.catch(() => {})
    await written
  }

  /**
   * Makes sure that nobody took us for dead.
   * @throws WALRX_BACKUP_INCOMPLETE when the intent is gone or belongs to another
   */
  async prove(signal?: AbortSignal): Promise<void> {
    await this.#writing
    const found = await readIntent(this.#storage, this.name, signal)
    if (found?.owner === this.#content.owner) return
    throw new WalrxError(
      'WALRX_BACKUP_INCOMPLETE',
      `another walrx took ${this.name} for dead: its intent ${found ? `now belongs to ${found.hostname}` : 'is gone'}`,
      { hint: 'this process stood still for more than 15 minutes; take the backup again' },
    )
  }

  /** Stops the heartbeat and leaves the intent where it is, for `walrx backup-finish`. */
  async leave(): Promise<void> {
    this.#isOver = true
    this.#timer?.cancel()
    await this.#writing
  }

  /** Removes the intent, if it is still ours. */
  async withdraw(): Promise<void> {
    await this.leave()
    if (await this.#isOurs()) await this.#storage.delete([intentKey(this.name)])
  }

  async #claim(signal: AbortSignal): Promise<void> {
    const storage = this.#storage
    if (!(await this.#create(signal))) {
      await removeExpired(storage, this.name, this.#clock, signal)
      if (!(await this.#create(signal))) {
        throw new WalrxError('WALRX_BACKUP_EXISTS', `${this.name} is being written by another process`, {
          hint: `${storage.location}/${intentKey(this.name)} names the writer; it expires 15 minutes after the writer's last heartbeat`,
        })
      }
    }
    const folder = backupFolder(this.name)
    for await (const { key } of storage.list(folder, { signal })) {
      const at = `${storage.location}/${folder}`
      throw new WalrxError('WALRX_BACKUP_EXISTS', `${at} holds objects without a sentinel, such as ${key}`, {
        hint: 'an unfinished backup of another tool: remove it with that tool (wal-g delete garbage BACKUPS)',
      })
    }
  }

  /** False when there is another's. One of our own is there already where the answer to a first attempt was lost. */
  async #create(signal: AbortSignal): Promise<boolean> {
    const outcome = await createDocument(this.#storage, intentKey(this.name), this.#bytes(), { signal })
    return outcome === 'created' || (await this.#isOurs(signal))
  }

  async #isOurs(signal?: AbortSignal): Promise<boolean> {
    const found = await readIntent(this.#storage, this.name, signal)
    return found?.owner === this.#content.owner
  }

  #bytes(): Buffer {
    return Buffer.from(formatJson(this.#content as unknown as JsonValue))
  }

  #write(): Promise<void> {
    return putDocument(this.#storage, intentKey(this.name), this.#bytes())
  }

  #schedule(): void {
    this.#timer = this.#clock.setTimer(heartbeatMs, () => {
      // A failed heartbeat does not matter: the next one may succeed, and prove() checks at the end.
      this.#writing = this.#writing.then(() => this.#beat()).catch(() => {})
      void this.#writing.then(() => {
        if (!this.#isOver) this.#schedule()
      })
    })
  }

  /** A walrx that took us for dead may have begun again under this name: its intent is not ours to write over. */
  async #beat(): Promise<void> {
    if (await this.#isOurs()) await this.#write()
    else this.#isOver = true
  }
}

/**
 * Removes the backups of dead writers, of all names. Returns the names.
 * @param onKept called with the name of one that the store does not let us remove
 */
export async function removeExpiredBackups(
  storage: Storage,
  clock: Clock,
  signal: AbortSignal,
  onKept?: (name: string, error: WalrxError) => void,
): Promise<string[]> {
  const removed: string[] = []
  const found: string[] = []
  for await (const { key } of storage.list(intentsPrefix, { signal })) {
    const name = nameOfIntent(key)
    if (name !== undefined) found.push(name)
  }
  for (const name of found) {
    try {
      if (await removeExpired(storage, name, clock, signal)) removed.push(name)
    } catch (error) {
      // A store that lets us delete nothing keeps them: they are in nobody's way.
      if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
      onKept?.(name, error)
    }
  }
  return removed
}

/** Removes the leftovers under one name when its intent has expired; those that wait for their WAL stay for a day. */
async function removeExpired(storage: Storage, name: string, clock: Clock, signal: AbortSignal): Promise<boolean> {
  const info = await storage.head(intentKey(name), { signal })
  if (!info) return false
  const content = await readIntent(storage, name, signal).catch((error: unknown) => {
    if (hasCode(error, 'WALRX_OBJECT_DAMAGED')) return undefined
    throw error
  })
  const now = await storageTime(storage, clock, { signal })
  if (now - info.lastModifiedMs < expiryOf(content)) return false
  // A backup that a delta builds on was complete once, though its sentinel has gone: it is nobody's leftover.
  const isBackup =
    (await storage.head(sentinelKey(name), { signal })) ??
    (await isBuiltOn(new BackupArchive(storage), name, { signal }))
  if (!isBackup) await removeLeftovers(storage, name, signal)
  await storage.delete([intentKey(name)], { signal })
  return true
}

async function removeLeftovers(storage: Storage, name: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    const keys: string[] = []
    for await (const { key } of storage.list(backupFolder(name), { signal })) if (keys.push(key) >= 500) break
    if (keys.length === 0) break
    await storage.delete(keys, { signal })
  }
  // A bucket may not let us list uploads; its own rules have to do then.
  await storage.removeUnfinished?.(backupFolder(name), { signal }).catch(() => {
    signal.throwIfAborted()
  })
}
