/**
 * The contract of `src/storage/storage.ts` as tests, sentence by sentence. Each backend runs the whole of it; what only
 * one backend has is tested in its own files.
 */
import { describe } from 'node:test'
import type { Storage } from '../../src/storage/storage.ts'
import { listingTests } from './contract-listing.ts'
import { objectTests } from './contract-objects.ts'
import { refusalTests } from './contract-refusals.ts'

/** A storage to be tested: empty, and nobody else's. */
export interface Subject extends AsyncDisposable {
  readonly storage: Storage
  /** Another storage on the same place, as another process would have. */
  reopen(): Storage
  /** A storage without its bucket or root directory. */
  missing(): Storage
}

/** What a backend can't do by its nature. */
export interface Traits {
  /** What a probe has to find: false for a store that ignores conditional puts. */
  readonly conditionalPut: boolean
  /** False for a store that lets two callers at the same moment create the same key. */
  readonly atomicCreate: boolean
  /** False for a store that shows half-written objects: s3rver writes in place. */
  readonly atomicPut: boolean
  /** False for a store that lists folder by folder instead of by the bytes of keys: s3rver. */
  readonly byteOrder: boolean
  /** False for a store that makes a slash of a backslash in a key: SeaweedFS. Default true. */
  readonly backslashes?: boolean
  /** False for a store that creates a bucket that is missing at the first put: SeaweedFS. Default true. */
  readonly missingBucket?: boolean
}

/** What every test of the suite gets. */
export interface ContractContext {
  readonly traits: Traits
  /** Opens a fresh subject for one test. */
  open(): Promise<Subject>
}

/** Runs the suite. `skip`: a reason, when there is nothing to run it on. */
export function testStorageContract(name: string, context: ContractContext, skip: string | false = false): void {
  describe(`contract of a storage: ${name}`, { skip }, () => {
    objectTests(context)
    listingTests(context)
    refusalTests(context)
  })
}
