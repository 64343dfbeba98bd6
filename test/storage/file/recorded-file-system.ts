/** The real file system with a record of the calls that change or sync anything, where each call can be made to fail. */
import * as real from 'node:fs/promises'
import type { FileHandle } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { readFlags } from '../../../src/storage/file/file-body.ts'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import type { FileSystem } from '../../../src/storage/file/file-system.ts'
import { archiveFolders } from '../../../src/walg/names.ts'

/** A call about to be made: `rename wal_005/x.tmp wal_005/x`, paths relative to the root, temporary suffixes cut. */
export type FileCall = string

/** Name of a call, as hooks compare it. */
export type FileCallName =
  'open' | 'write' | 'sync' | 'close' | 'rename' | 'link' | 'unlink' | 'mkdir' | 'rmdir' | 'opendir'

/** See the head of the file. */
export class RecordedFileSystem implements FileSystem {
  /** Calls so far, oldest first. */
  readonly calls: FileCall[] = []
  /** Runs ahead of each call; what it throws is what the call answers, what it awaits delays the call. */
  before: (name: FileCallName, call: FileCall) => void | Promise<void> = () => {}
  readonly #root: string

  constructor(root: string) {
    this.#root = root
  }

  readonly lstat = real.lstat
  readonly readlink = real.readlink
  readonly stat = real.stat

  readonly opendir = (async (path: string, options: object) => {
    await this.#call('opendir', path)
    return await real.opendir(path, options)
  }) as FileSystem['opendir']

  readonly mkdir = (async (path: string, options: object) => {
    await this.#call('mkdir', path)
    return await real.mkdir(path, options)
  }) as FileSystem['mkdir']

  readonly rmdir = (async (path: string) => {
    await this.#call('rmdir', path)
    await real.rmdir(path)
  }) as FileSystem['rmdir']

  readonly rename = (async (from: string, to: string) => {
    await this.#call('rename', from, to)
    await real.rename(from, to)
  }) as FileSystem['rename']

  readonly link = (async (from: string, to: string) => {
    await this.#call('link', from, to)
    await real.link(from, to)
  }) as FileSystem['link']

  readonly unlink = (async (path: string) => {
    await this.#call('unlink', path)
    await real.unlink(path)
  }) as FileSystem['unlink']

  readonly open = (async (path: string, flags: string | number, mode?: number) => {
    if (flags !== 'r' && flags !== readFlags) await this.#call('open', path)
    return this.#wrap(await real.open(path, flags, mode), path)
  }) as FileSystem['open']

  #wrap(handle: FileHandle, path: string): FileHandle {
    const hooked: Partial<Record<keyof FileHandle, unknown>> = {
      write: async (...args: Parameters<FileHandle['write']>) => {
        await this.#call('write', path)
        return await handle.write(...args)
      },
      sync: async () => {
        await this.#call('sync', path)
        await handle.sync()
      },
      close: async () => {
        // A descriptor goes whatever close(2) answers.
        await handle.close()
        await this.#call('close', path)
      },
    }
    return new Proxy(handle, {
      get: (target, property: keyof FileHandle) => {
        const value: unknown = hooked[property] ?? target[property]
        return typeof value === 'function' ? (value.bind(target) as unknown) : value
      },
    })
  }

  async #call(name: FileCallName, ...paths: string[]): Promise<void> {
    const call = [name, ...paths.map((path) => this.#shorten(path))].join(' ')
    this.calls.push(call)
    await this.before(name, call)
  }

  #shorten(path: string): string {
    // The lock of a file system without links has zeros for a time.
    return (relative(this.#root, path) || '.').replace(/\.tmp\.2\d{7}T\d{6}Z-[0-9a-f]{16}$/, '.tmp')
  }
}

/** An error as a system call throws it. */
export function errnoError(code: string): Error {
  return Object.assign(new Error(`${code}: made up`), { code })
}

/** An empty archive, the calls made on it, and a storage without hooks on the same directory. */
export async function openArchive(fsync = true) {
  const root = await real.mkdtemp(join(tmpdir(), 'walrx-file-'))
  const fileSystem = new RecordedFileSystem(root)
  return {
    root,
    fileSystem,
    storage: new FileStorage({ folders: archiveFolders, root, fsync, fileSystem }),
    fresh: new FileStorage({ folders: archiveFolders, root, fsync: false }),
    [Symbol.asyncDispose]: () => real.rm(root, { recursive: true }),
  }
}

/** Unfinished files below `root`. */
export async function leftovers(root: string): Promise<string[]> {
  return (await real.readdir(root, { recursive: true })).filter((name) => name.includes('.tmp.'))
}
