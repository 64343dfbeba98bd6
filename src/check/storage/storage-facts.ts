/** What the store has answered to each request of a check. */
import type { Attempt } from '../attempt.ts'
import type { ClockReading } from '../clock-finding.ts'

/** The file system of a directory. */
export interface DirectoryFacts {
  readonly path: string
  /** Of statfs(2). */
  readonly kind: number
  readonly freeBytes: number
  readonly totalBytes: number
  /** Undefined where the file system has no fixed number of inodes. */
  readonly freeInodes: number | undefined
  readonly device: number
}

/** What an object of ours looks like in the store. */
export interface ObjectFacts {
  readonly clock: ClockReading | undefined
  readonly lockedUntilMs: number | undefined
  /** Undefined for what is no bucket. */
  readonly hasVersions: boolean | undefined
}

/** Where an archive in a bucket is. */
export interface BucketPlace {
  readonly name: string
  /** '' for none. */
  readonly folder: string
  /** URL of a store that is not AWS. */
  readonly endpoint: string | undefined
}

/** Undefined stands for what was not asked, because something before it failed. */
export interface StorageFacts {
  readonly location: string
  /** Undefined for a directory. */
  readonly bucket: BucketPlace | undefined
  readonly directory: DirectoryFacts | undefined
  readonly list: Attempt<true>
  readonly put?: Attempt<true>
  /** True where it came back as it was written. */
  readonly get?: Attempt<boolean>
  readonly object?: Attempt<ObjectFacts>
  readonly traits?: Attempt<{ readonly conditionalPut: boolean; readonly listingProblem: string | undefined }>
  /** With the id of the upload. */
  readonly multipart?: Attempt<string>
  readonly abort?: Attempt<true>
  readonly unfinished?: Attempt<true>
  readonly remove?: Attempt<true>
}

/** What `--deep` has measured. */
export interface DeepFacts {
  readonly bytes: number
  readonly segmentSize: number
  readonly storedBytes: number
  readonly writeMs: number
  readonly readMs: number
  readonly isSame: boolean
}
