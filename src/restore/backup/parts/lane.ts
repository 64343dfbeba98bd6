/** A lane reads parts, one after the other. A restore has several. */
import type { HandedObject } from '../../../walg/stored/handed-object.ts'
import type { ChunkBuffers } from '../../../storage/storage.ts'
import type { RestoreSink } from '../restore-sink.ts'
import { type EntryHead, type EntryHost, type PartSum, readPart } from './part-reading.ts'

/** See the file's header. */
export interface Lane {
  /** Memory for the chunks of the objects that are read here. */
  readonly buffers?: ChunkBuffers
  /** Reads a part to its end; see {@link readPart}. The object is closed in any case. */
  read(part: HandedObject, host: EntryHost): Promise<PartSum>
  /** All files of this lane are durable when this resolves; it reads nothing more. */
  end(): Promise<void>
  /** Gives the lane up. */
  drop(): Promise<void>
}

/** Opens a lane into a sink. */
export type OpenLane = (sink: RestoreSink) => Lane

/** A lane on this thread. */
export function ownThreadLane(sink: RestoreSink): Lane {
  const files = {
    file: ({ mode = 0, path }: { readonly path: string; readonly mode?: number }) => sink.file(path, mode),
    change: ({ path }: { readonly path: string }) => sink.change(path),
  }
  return {
    async read({ bytes, close, handing }, host) {
      try {
        const plans = async ([first]: readonly EntryHead[]) => (first ? [await host.plan(first)] : [])
        const source = { handing, bytes, release: () => {} }
        return await readPart(source, { plans, done: (result) => host.done(result) }, files)
      } finally {
        await close()
      }
    },
    end: async () => {},
    drop: async () => {},
  }
}
