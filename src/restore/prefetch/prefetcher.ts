/**
 * Downloads the segments that a recovering server wants next into a folder in its pg_wal, ahead of the server and in
 * order.
 *
 * The window begins at the segment that the server wants next. It moves when a ready file is taken (the restore_command
 * is a plain `mv`), and when a wal-fetch reports that the server wants another segment, for example one of another
 * timeline. Segments that leave the window are dropped. Each segment in it is in one of these states:
 *
 *   running  being downloaded and checked; becomes ready, absent or failed
 *   ready    complete, durable, in the folder; leaves it when it is taken
 *   absent   not in the archive; tried again after a while, and no later segment is started until then. While the server
 *            asks for one segment again and again, nothing is tried: it is at the end of the archive
 *   failed   the storage failed, or the object is damaged; tried again after a while
 *
 * The prefetcher never decides that a segment is missing or damaged: it only has none ready. The server then calls
 * wal-fetch, which reports it.
 */
import { type FSWatcher, unlinkSync, watch } from 'node:fs'
import { rename } from 'node:fs/promises'
import type { Logger } from '../../observe/log.ts'
import { type Clock, systemClock, type Timer } from '../../primitives/clock.ts'
import { Backoff } from '../../primitives/backoff.ts'
import type { SegmentId } from '../../postgres/wal/wal-file.ts'
import type { WalReader } from '../../walg/wal/wal-reader.ts'
import type { RequiredSystem } from '../wal/segment-check.ts'
import { downloadWalFile, isOutOfSpace, localWork } from '../wal/wal-download.ts'
import type { ChannelAddress } from './channel-address.ts'
import { listenForWanted, type PrefetchChannel } from './prefetch-channel.ts'
import { following, PrefetchWindow, type Slot } from './prefetch-window.ts'
import { hasRoomForAnother, isTooFull, type SegmentSpace } from './prefetch-space.ts'
import type { ReadyFolder } from './ready-folder.ts'

/** Options of {@link Prefetcher}. */
export interface PrefetcherOptions {
  readonly reader: Pick<WalReader, 'openWalFile' | 'location'>
  readonly folder: ReadyFolder
  /** Where it listens for the segments that the server wants. */
  readonly address: ChannelAddress
  /** Name of the segment that the server wants next. */
  readonly first: string
  /** Bytes of a segment. */
  readonly segmentSize: number
  /** Bytes of segments that are ready or running; at least two segments are allowed. */
  readonly windowBytes: number
  /** Segments downloaded at the same time. */
  readonly concurrency: number
  /** Extension to try first. */
  readonly extension?: string | undefined
  readonly systems: () => Promise<readonly RequiredSystem[]>
  /** True while the recovery runs. */
  readonly isRecovering: () => boolean
  /** Free bytes on the file system of the folder. */
  readonly freeBytes: () => Promise<number>
  /** Ends the prefetcher. */
  readonly signal: AbortSignal
  readonly log: Logger
  /** Default the real clock. */
  readonly clock?: Clock
}

/** Why a prefetcher ended. */
export type PrefetchEnd = 'stopped' | 'recovery over' | 'idle'

/** How often to check the recovery and the folder when no event comes. */
const tickMs = 250
/** After this long without a segment taken or asked for, the server is at the end of the archive (or streams). */
const idleAtEndMs = 60_000
/** The same where segments are ready or running: the server is paused, or replays a very large segment. */
const idleWithMoreMs = 600_000
/** A download without progress for this long is aborted: wal-fetch then downloads the segment itself. */
const stalledMs = 5_000
/** The pause after the file system was full. */
const fullPauseMs = 10_000

/** See the head of the file. */
export class Prefetcher {
  readonly #options: PrefetcherOptions
  readonly #clock: Clock
  readonly #window: PrefetchWindow
  /** Segments that became ready since the window last jumped. */
  #readyCount = 0
  /** Every running download, also after its slot was dropped. */
  readonly #downloads = new Set<Promise<boolean>>()
  #serial = 0
  #extension: string | undefined
  #lastActivityMs: number
  #fullUntilMs = 0
  #wake: () => void = () => {}
  #isWoken = false
  /** The segment that a wal-fetch asked for last, where none was ready. */
  #missed: string | undefined
  /** True while the server asks for the same segment again and again: it is at the end of the archive. */
  #isPolled = false

  /** Throws WALRX_USAGE when `first` is not a segment name. */
  constructor(options: PrefetcherOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#extension = options.extension
    this.#lastActivityMs = this.#clock.now()
    this.#window = new PrefetchWindow(options.first, options.segmentSize, options.windowBytes)
  }

  /** Works until the recovery is over, the server has stopped asking, or `signal` aborts. Throws when it can't work. */
  async run(): Promise<PrefetchEnd> {
    const { folder, signal } = this.#options
    let channel: PrefetchChannel | undefined
    let watcher: FSWatcher | undefined
    const wake = () => this.#wakeUp()
    signal.addEventListener('abort', wake, { once: true })
    try {
      channel = await listenForWanted(this.#options.address, (name) => this.#wanted(name))
      watcher = watchFolder(folder.path, wake)
      for (;;) {
        const end = this.#reasonToEnd()
        if (end) return end
        await this.#noticeTaken()
        this.#abortStalled()
        await this.#makeRoom()
        await this.#fill()
        await this.#sleep()
      }
    } finally {
      signal.removeEventListener('abort', wake)
      watcher?.close()
      channel?.close()
      await this.#dropAll()
    }
  }

  /** Has it look at the recovery now, not at the next tick. */
  lookAgain(): void {
    this.#wakeUp()
  }

  #reasonToEnd(): PrefetchEnd | undefined {
    if (this.#options.signal.aborted) return 'stopped'
    if (!this.#options.isRecovering()) return 'recovery over'
    const idleMs = this.#clock.now() - this.#lastActivityMs
    if (idleMs < idleAtEndMs) return undefined
    const hasMore = [...this.#window.inState('ready'), ...this.#window.inState('running')].some(
      ([, slot]) => !slot.wasAbsent,
    )
    return idleMs >= (hasMore ? idleWithMoreMs : idleAtEndMs) ? 'idle' : undefined
  }

  /** Answers a wal-fetch: true once the segment is ready, false when wal-fetch must download it itself. */
  async #wanted(name: string): Promise<boolean> {
    const id = this.#window.parse(name)
    const slot = this.#window.slots.get(name)
    const isComing = slot !== undefined && (slot.state === 'running' || slot.state === 'ready')
    // The calls of the server look for this segment themselves: to look for later ones would be in vain.
    this.#isPolled = !isComing && name === this.#missed
    if (this.#isPolled) return false
    this.#missed = isComing ? undefined : name
    this.#lastActivityMs = this.#clock.now()
    this.#aim(isComing ? id : following(id))
    return isComing && (slot.state === 'ready' || (await slot.done))
  }

  /** Sets the first segment of the window. */
  #aim(next: SegmentId): void {
    const isNear = this.#window.slots.has(this.#window.nameOf(next)) || this.#window.covers(next)
    if (!isNear) this.#readyCount = 0
    this.#window.next = next
    for (const [name, slot] of this.#window.slots) if (!this.#window.covers(slot.id)) this.#drop(name, slot)
    this.#wakeUp()
  }

  /** Moves the window past the segments that were taken. */
  async #noticeTaken(): Promise<void> {
    const ready = this.#window.inState('ready')
    if (ready.length === 0) return
    const names = new Set(await this.#options.folder.readyNames())
    let next = this.#window.next
    for (const [name, slot] of ready) {
      if (names.has(name) || this.#window.slots.get(name) !== slot) continue
      this.#window.slots.delete(name)
      this.#lastActivityMs = this.#clock.now()
      if (slot.id.segno >= next.segno) next = following(slot.id)
    }
    if (next !== this.#window.next) this.#aim(next)
  }

  /** Starts downloads: in order, and few at first, so that the segment that the server waits for arrives soon. */
  async #fill(): Promise<void> {
    const now = this.#clock.now()
    if (now < this.#fullUntilMs || this.#isPolled) return
    const runningMax = Math.min(this.#options.concurrency, 2 + this.#readyCount)
    const { next } = this.#window
    for (const id of this.#window.ids()) {
      const slot = this.#window.slots.get(this.#window.nameOf(id))
      const isWaiting = slot !== undefined && now < slot.retryAtMs
      if (slot?.wasAbsent && (isWaiting || slot.state === 'running')) return
      if (slot?.state === 'running' || slot?.state === 'ready' || isWaiting) continue
      if (this.#window.inState('running').length >= runningMax) return
      if (!hasRoomForAnother(await this.#space())) return
      // Meanwhile the server may have asked for something else.
      if (this.#window.next !== next) return
      this.#start(id, slot)
      if (slot?.wasAbsent) return
    }
  }

  #start(id: SegmentId, previous: Slot | undefined): void {
    const slot: Slot = {
      id,
      state: 'running',
      done: Promise.resolve(false),
      abort: new AbortController(),
      lastProgressMs: this.#clock.now(),
      retryAtMs: 0,
      wasAbsent: previous?.wasAbsent ?? false,
      backoff: previous?.backoff ?? new Backoff({ firstMs: 1000, maxMs: 10_000 }),
    }
    this.#window.slots.set(this.#window.nameOf(id), slot)
    const download = this.#download(this.#window.nameOf(id), slot)
    slot.done = download
    this.#downloads.add(download)
    void download.finally(() => this.#downloads.delete(download))
  }

  async #download(name: string, slot: Slot): Promise<boolean> {
    const { folder, log, reader, segmentSize, systems } = this.#options
    const path = folder.running(`${name}.${this.#serial++}`)
    try {
      const found = await downloadWalFile({
        reader,
        name,
        path,
        extension: this.#extension,
        segmentSize,
        systems,
        signal: slot.abort.signal,
        onProgress: () => (slot.lastProgressMs = this.#clock.now()),
      })
      if (!found) return this.#settle(slot, 'absent')
      this.#extension = found.extension
      if (this.#window.slots.get(name) !== slot) {
        unlinkIfThere(path)
        return false
      }
      await localWork(path, 'rename', rename(path, folder.ready(name)))
      if (this.#window.slots.get(name) === slot) return this.#settle(slot, 'ready')
      unlinkIfThere(folder.ready(name))
      return false
    } catch (error) {
      if (slot.abort.signal.aborted) return this.#settle(slot, 'failed')
      log.warn('segment could not be prefetched, trying again later', { segment: name, error })
      if (isOutOfSpace(error)) this.#giveSpaceBack()
      return this.#settle(slot, 'failed')
    }
  }

  #settle(slot: Slot, state: 'ready' | 'absent' | 'failed'): boolean {
    slot.state = state
    this.#wakeUp()
    if (state === 'ready') {
      this.#readyCount++
      slot.wasAbsent = false
      return true
    }
    slot.retryAtMs = this.#clock.now() + slot.backoff.next()
    slot.wasAbsent ||= state === 'absent'
    return false
  }

  #abortStalled(): void {
    const now = this.#clock.now()
    for (const [name, slot] of this.#window.inState('running')) {
      if (now - slot.lastProgressMs < stalledMs || slot.abort.signal.aborted) continue
      this.#options.log.warn(`download made no progress for ${stalledMs / 1000} s, aborting it`, { segment: name })
      slot.abort.abort()
    }
  }

  async #space(): Promise<SegmentSpace> {
    const { freeBytes, segmentSize } = this.#options
    const [ready, running] = [this.#window.inState('ready').length, this.#window.inState('running').length]
    return { freeBytes: await freeBytes(), segmentSize, ready, running }
  }

  /** Gives the server the space of segments that it wants last. The next one stays: a `mv` needs no space. */
  async #makeRoom(): Promise<void> {
    const order = (a: [string, Slot], b: [string, Slot]) => (a[1].id.segno < b[1].id.segno ? 1 : -1)
    for (const [name, slot] of this.#window.inState('ready').sort(order)) {
      if (slot.id.segno === this.#window.next.segno || !isTooFull(await this.#space())) return
      if (this.#window.slots.get(name) === slot) this.#drop(name, slot)
    }
  }

  /** Frees all disk space, and writes nothing for a while. */
  #giveSpaceBack(): void {
    this.#options.log.warn(`file system is full, prefetching pauses for ${fullPauseMs / 1000} s`, {
      folder: this.#options.folder.path,
    })
    this.#fullUntilMs = this.#clock.now() + fullPauseMs
    for (const [name, slot] of this.#window.slots) this.#drop(name, slot)
  }

  #drop(name: string, slot: Slot): void {
    this.#window.slots.delete(name)
    slot.abort.abort()
    // Synchronously: a later file may get the same name.
    if (slot.state === 'ready') unlinkIfThere(this.#options.folder.ready(name))
  }

  async #dropAll(): Promise<void> {
    for (const [name, slot] of this.#window.slots) this.#drop(name, slot)
    await Promise.all(this.#downloads)
  }

  /** Waits until something happens, or for a tick. */
  #sleep(): Promise<void> {
    return new Promise((resolve) => {
      const timer: Timer = this.#clock.setTimer(this.#isWoken ? 0 : tickMs, () => this.#wake())
      this.#wake = () => {
        timer.cancel()
        this.#wake = () => {}
        this.#isWoken = false
        resolve()
      }
    })
  }

  #wakeUp(): void {
    this.#isWoken = true
    this.#wake()
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path)
  } catch {
    // The server has just taken it.
  }
}

/** Reports changes in a folder; undefined where the system has no more watches, and ticks must be enough. */
export function watchFolder(path: string, onChange: (name: string | null) => void): FSWatcher | undefined {
  try {
    return watch(path, (_event, name) => onChange(name)).on('error', () => {})
  } catch {
    return undefined
  }
}
