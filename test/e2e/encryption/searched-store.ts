/** Where an encrypted archive is, and all bytes that lie there, under whatever name. */
import { chmodSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { readObject } from '../../../src/storage/storage.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { StoreWorld } from '../receive/store-world.ts'

/** See the file's header. */
export interface SearchedStore extends AsyncDisposable {
  /** What walrx finds it by. */
  readonly env: Readonly<Record<string, string>>
  /** By key, unfinished objects included. */
  objects(): Promise<ReadonlyMap<string, Buffer>>
  /** True while a backup is being written: in a directory, when its part has begun. */
  isWriting(): Promise<boolean>
}

/** A directory. */
export function directoryStore(): Promise<SearchedStore> {
  const root = join(newServerDirectory('searched'), 'archive')
  mkdirSync(root, { recursive: true })
  chmodSync(root, 0o777)
  return Promise.resolve({
    env: { WALG_FILE_PREFIX: root },
    objects: () => Promise.resolve(filesBelow(root)),
    isWriting: () => {
      const parts = [...filesBelow(root)].filter(([path]) => /\/tar_partitions\/.*\.tmp\./.test(path))
      return Promise.resolve(parts.some(([, bytes]) => bytes.length > 65536))
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  })
}

/** A bucket: the environment's, or s3rver's. */
export async function bucketStore(): Promise<SearchedStore> {
  const world = await StoreWorld.open()
  return {
    env: world.env,
    async objects() {
      const keys = await world.keys()
      const bytes = keys.map(async (key) => [key, await readObject(world.storage, key)] as const)
      return new Map(await Promise.all(bytes))
    },
    isWriting: async () => (await world.keys('walrx_005/backups/')).length > 0,
    [Symbol.asyncDispose]: () => world[Symbol.asyncDispose](),
  }
}

/** All files below a directory, by their paths in it, but for those that go meanwhile. */
export function filesBelow(root: string): Map<string, Buffer> {
  const found = new Map<string, Buffer>()
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    try {
      found.set(relative(root, path), readFileSync(path))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    }
  }
  return found
}
