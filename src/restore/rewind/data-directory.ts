/** One of two data directories that have diverged: where its cluster is, and which WAL files its pg_wal has. */
import { link, lchown, readFile, readdir, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode, WalrxError } from '../../primitives/errors.ts'
import { type ControlState, parseControlState } from '../../postgres/control-file.ts'
import type { Timeline } from '../../postgres/lsn.ts'
import { TimelineChain } from '../../postgres/wal/timeline-chain.ts'
import { type HistoryEntry, historyName, parseHistory, walFileKind } from '../../postgres/wal/wal-file.ts'
import { localWork } from '../wal/wal-download.ts'

/** Fetches a WAL file to a path that is free; false where the archive lacks it. */
export type FetchTo = (name: string, path: string, dataDir: string) => Promise<boolean>

/** See the file's header. */
export class DataDirectory {
  readonly path: string
  readonly state: ControlState
  /** Names of the files that were fetched, in the order in which they came. */
  readonly fetched: string[] = []
  /** Names of those that neither it nor the archive has. */
  readonly missing: string[] = []
  readonly #fetch: FetchTo
  readonly #files: Set<string>

  private constructor(path: string, state: ControlState, files: Set<string>, fetch: FetchTo) {
    this.path = path
    this.state = state
    this.#files = files
    this.#fetch = fetch
  }

  /** @throws WALRX_USAGE for a directory without a control file that can be read, or without pg_wal */
  static async open(path: string, fetch: FetchTo): Promise<DataDirectory> {
    const control = join(path, 'global', 'pg_control')
    const state = parseControlState(await read(control, 'a data directory has this file'))
    if (!state) {
      throw new WalrxError('WALRX_USAGE', `${control} cannot be read: its checksum is wrong`, {
        hint: 'give the data directory of a PostgreSQL of version 14 or later',
      })
    }
    const files = await readdir(join(path, 'pg_wal')).catch((error: unknown) => {
      throw unreadable(join(path, 'pg_wal'), error, 'a data directory has this folder')
    })
    return new DataDirectory(path, state, new Set(files.filter((name) => walFileKind(name) !== undefined)), fetch)
  }

  /** Where a file of pg_wal is. */
  pathOf(name: string): string {
    return join(this.path, 'pg_wal', name)
  }

  /** Timelines of which pg_wal has a history file, the newest first. */
  historyTimelines(): Timeline[] {
    const histories = [...this.#files].filter((name) => walFileKind(name) === 'history')
    return histories.map((name) => parseInt(name.slice(0, 8), 16)).sort((a, b) => b - a)
  }

  /** Names of the segments of a timeline that pg_wal has, in order. */
  segments(timeline: Timeline): string[] {
    const prefix = historyName(timeline).slice(0, 8)
    return [...this.#files].filter((name) => name.startsWith(prefix) && walFileKind(name) === 'segment').sort()
  }

  /**
   * A timeline with its ancestors, by its history file, which is fetched where pg_wal lacks it.
   * @throws WALRX_ARCHIVE_HOLE where the archive lacks it too
   */
  async chain(timeline: Timeline): Promise<TimelineChain> {
    return new TimelineChain(timeline, timeline === 1 ? [] : await this.#history(timeline))
  }

  async #history(timeline: Timeline): Promise<HistoryEntry[]> {
    const name = historyName(timeline)
    if (!(await this.ensure(name))) {
      throw new WalrxError('WALRX_ARCHIVE_HOLE', `neither ${this.path}/pg_wal nor the archive has ${name}`, {
        hint: `copy it there from a server of timeline ${timeline}: its pg_wal has it`,
      })
    }
    return parseHistory(await read(this.pathOf(name), 'the history of a timeline'), name)
  }

  /**
   * Sees that pg_wal has a file: one that is there stays as it is.
   * @returns false where the archive lacks it; it is then among {@link missing}
   */
  async ensure(name: string): Promise<boolean> {
    if (this.#files.has(name)) return true
    if (this.missing.includes(name)) return false
    const [path, temporary] = [this.pathOf(name), this.pathOf(`.walrx-restore-${process.pid}-${name}`)]
    if (!(await this.#fetch(name, temporary, this.path))) {
      this.missing.push(name)
      return false
    }
    try {
      await this.#giveToOwner(temporary)
      // Unlike a rename, it fails where the server has made the file meanwhile.
      await localWork(path, 'create', link(temporary, path))
      this.fetched.push(name)
    } catch (error) {
      const cause = hasCode(error, 'WALRX_DESTINATION') ? (error.cause as NodeJS.ErrnoException) : undefined
      if (cause?.code !== 'EEXIST') throw error
    } finally {
      await unlink(temporary).catch(() => {})
    }
    this.#files.add(name)
    return true
  }

  /** The server reads its WAL as its own user; root may fetch it. */
  async #giveToOwner(path: string): Promise<void> {
    if (process.geteuid?.() !== 0) return
    const { gid, uid } = await stat(join(this.path, 'pg_wal'))
    await localWork(path, 'change the owner of', lchown(path, uid, gid))
  }
}

async function read(path: string, hint: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw unreadable(path, error, hint)
  }
}

function unreadable(path: string, error: unknown, hint: string): WalrxError {
  const { code, message } = error as NodeJS.ErrnoException
  return new WalrxError('WALRX_USAGE', `${path} cannot be read: ${code ?? message}`, { hint, cause: error })
}
