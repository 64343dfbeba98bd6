/** What the keys of WAL and of what belongs to it say: which segments an object is about, and so whether it may go. */
import type { Timeline } from '../../postgres/lsn.ts'
import { parseSegmentName } from '../../postgres/wal/wal-file.ts'
import { divergedFolder, parseTailKey, parseWalKey, tailFolder, walFolder } from '../../walg/names.ts'

/**
 * What an object is: a whole segment, the partial one of a timeline's end, a backup label, WAL-G's sidecars (delta maps,
 * metadata), a chunk of a tail, or a partial that contradicts another one.
 */
export const walObjectKinds = ['segment', 'partial', 'label', 'sidecar', 'chunk', 'diverged'] as const

/** One of {@link walObjectKinds}. */
export type WalObjectKind = (typeof walObjectKinds)[number]

/** The folders that hold such objects, in the order in which a deletion works through them. */
export const walFolders: readonly string[] = [walFolder, tailFolder, divergedFolder]

/** An object that belongs to segments of one timeline. Segment numbers are below 2^44, and so exact. */
export interface WalKey {
  readonly kind: WalObjectKind
  readonly timeline: Timeline
  /** Numbers of the segments that it is about, both included. */
  readonly first: number
  readonly last: number
  /** Of a chunk: offset of its end within the segment, in bytes. */
  readonly to?: number
}

/** WAL-G's delta maps and bulk metadata are for groups of so many segments. */
const groupSegments = 16

/**
 * Takes a key apart. Undefined for what is not about a segment (histories) and for what nobody knows: neither is ever
 * removed by a rule.
 */
export function parseWalObject(key: string, segmentSize: number): WalKey | undefined {
  if (key.startsWith(walFolder)) return parseInWalFolder(key, segmentSize)
  if (key.startsWith(tailFolder)) {
    const chunk = parseTailKey(key)
    const found = chunk && ofSegment('chunk', chunk.segment, segmentSize)
    return found && chunk && { ...found, to: chunk.to }
  }
  if (!key.startsWith(divergedFolder)) return undefined
  const name = /^([0-9A-F]{24})\.partial/.exec(key.slice(divergedFolder.length))?.[1]
  return name === undefined ? undefined : ofSegment('diverged', name, segmentSize)
}

function parseInWalFolder(key: string, segmentSize: number): WalKey | undefined {
  const file = parseWalKey(key)
  if (file?.kind === 'history') return undefined
  if (file) return ofSegment(file.kind === 'backup' ? 'label' : file.kind, file.name.slice(0, 24), segmentSize)
  const object = key.slice(walFolder.length)
  const own = /^([0-9A-F]{24})\.json$/.exec(object)?.[1]
  if (own !== undefined) return ofSegment('sidecar', own, segmentSize)
  const map = /^([0-9A-F]{24})_delta(?:\.[a-z0-9]*)?$/.exec(object)?.[1]
  const bulk = /^([0-9A-F]{23})\.json$/.exec(object)?.[1]
  const name = map ?? (bulk === undefined ? undefined : `${bulk}0`)
  const group = name === undefined ? undefined : ofSegment('sidecar', name, segmentSize)
  return group && { ...group, last: group.first + groupSegments - 1 }
}

function ofSegment(kind: WalObjectKind, name: string, segmentSize: number): WalKey | undefined {
  const id = parseSegmentName(name, segmentSize)
  return id && { kind, timeline: id.timeline, first: Number(id.segno), last: Number(id.segno) }
}
