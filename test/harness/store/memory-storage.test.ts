import { testStorageContract } from '../../storage/contract.ts'
import { MemoryStorage } from './memory-storage.ts'

for (const conditionalPut of [true, false]) {
  testStorageContract(`memory, conditionalPut ${conditionalPut}`, {
    traits: { conditionalPut, atomicCreate: conditionalPut, atomicPut: true, byteOrder: true },
    open() {
      const storage = new MemoryStorage({ conditionalPut })
      return Promise.resolve({
        storage,
        reopen: () => new MemoryStorage({ conditionalPut, objects: storage.objects }),
        missing: () => new MemoryStorage({ missing: true }),
        [Symbol.asyncDispose]: () => storage.close(),
      })
    },
  })
}
