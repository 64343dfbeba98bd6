import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FileStorage } from '../../../src/storage/file/file-storage.ts'
import { archiveFolders } from '../../../src/walg/names.ts'
import { testStorageContract } from '../contract.ts'

testStorageContract('directory', {
  traits: { conditionalPut: true, atomicCreate: true, atomicPut: true, byteOrder: true },
  async open() {
    const parent = await mkdtemp(join(tmpdir(), 'walrx-file-'))
    const root = join(parent, 'archive')
    await mkdir(root)
    // Without fsync, which the tests of durability are about: a thousand of them take ten seconds.
    const storage = new FileStorage({ folders: archiveFolders, root, fsync: false })
    return {
      storage,
      reopen: () => new FileStorage({ folders: archiveFolders, root, fsync: false }),
      missing: () => new FileStorage({ folders: archiveFolders, root: join(parent, 'missing') }),
      [Symbol.asyncDispose]: async () => {
        await storage.close()
        await rm(parent, { recursive: true })
      },
    }
  },
})
