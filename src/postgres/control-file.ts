/**
 * `global/pg_control` (ControlFileData in catalog/pg_control.h), as far as a backup needs it. The fields before
 * `data_checksum_version` differ from version to version; those between it and the CRC at the end hardly do. So the end is
 * found by the CRC, and the field from there.
 */
import { crc32c } from '@node-rs/crc32'
import { type Lsn, type Timeline, toLsn } from './lsn.ts'

/** Whether pages have checksums, in the words of `SHOW data_checksums`. Up to PostgreSQL 18 it is `off` or `on`. */
export type ChecksumState = 'off' | 'on' | 'inprogress-off' | 'inprogress-on'

/** By the number in the file (ChecksumStateType in storage/checksum.h). */
const states: readonly ChecksumState[] = ['off', 'on', 'inprogress-off', 'inprogress-on']

const [segmentSizeMin, segmentSizeMax] = [1024 * 1024, 1024 * 1024 * 1024]

/** Where the fields lie in which the versions do not differ. */
const versionAt = 8
/** The file is shorter than a sector of a disk, with all fields that any version has. */
const endMin = 128
const endMax = 508

/**
 * Reads whether pages have checksums.
 * @param file the content of pg_control
 * @returns undefined for a version that walrx does not know, and for a file whose CRC is wrong
 */
export function parseChecksumState(file: Buffer): ChecksumState | undefined {
  if (file.length < endMax + 4) return undefined
  const distance = distanceToEnd(file.readUInt32LE(versionAt))
  const end = findEnd(file)
  if (distance === undefined || end === undefined) return undefined
  return states[file.readUInt32LE(end - distance)]
}

/** What a server was doing when it last wrote the file, by the number in it (DBState in catalog/pg_control.h). */
const serverStates = [
  'starting up',
  'shut down',
  'shut down in recovery',
  'shutting down',
  'in crash recovery',
  'in archive recovery',
  'in production',
] as const

/** In the words of pg_controldata. */
export type ServerState = (typeof serverStates)[number]

/**
 * Reads what the server was doing, the u32 at 16.
 * @param file the content of pg_control
 * @returns undefined for a state that walrx does not know, and for a file whose CRC is wrong
 */
export function parseServerState(file: Buffer): ServerState | undefined {
  if (file.length < endMax + 4 || findEnd(file) === undefined) return undefined
  return serverStates[file.readUInt32LE(16)]
}

/** Where a cluster is, by its control file. */
export interface ControlState {
  readonly systemId: bigint
  /** Of its last checkpoint: that record, the position that a recovery from it begins at, and its timeline. */
  readonly checkpoint: Lsn
  readonly redo: Lsn
  readonly timeline: Timeline
  /** Bytes; undefined in a layout that walrx does not know. */
  readonly segmentSize: number | undefined
}

/**
 * Reads where a cluster is. These fields lie at the beginning, where no version from 14 on differs: 0 system_identifier
 * u64, 32 checkPoint u64, 40 checkPointCopy.redo u64, 48 checkPointCopy.ThisTimeLineID u32.
 * @param file the content of pg_control
 * @returns undefined for a file whose CRC is wrong
 */
export function parseControlState(file: Buffer): ControlState | undefined {
  if (file.length < endMax + 4) return undefined
  const end = findEnd(file)
  if (end === undefined) return undefined
  const distance = distanceToEnd(file.readUInt32LE(versionAt))
  // Six integers before data_checksum_version.
  const size = distance === undefined ? 0 : file.readUInt32LE(end - distance - segmentSizeBefore)
  const isSize = size >= segmentSizeMin && size <= segmentSizeMax && (size & (size - 1)) === 0
  return {
    systemId: file.readBigUInt64LE(0),
    checkpoint: toLsn(file.readBigUInt64LE(32)),
    redo: toLsn(file.readBigUInt64LE(40)),
    timeline: file.readUInt32LE(48),
    segmentSize: isSize ? size : undefined,
  }
}

/** Bytes from xlog_seg_size to data_checksum_version: five integers and a boolean with its padding. */
const segmentSizeBefore = 24

/** What `SHOW data_checksums` says. A word that walrx does not know is a state in which pages may have no checksums yet. */
export function parseShownState(text: string): ChecksumState {
  return states.find((state) => state === text) ?? 'inprogress-on'
}

/** Bytes from data_checksum_version to the CRC: the nonce came with 10, the signedness of char with 18. */
function distanceToEnd(version: number): number | undefined {
  if (version >= 942 && version < 1000) return 4
  if (version >= 1000 && version < 1800) return 4 + 32
  if (version >= 1800 && version < 2000) return 4 + 36
  return undefined
}

/** The offset of the CRC; undefined where there is none. */
function findEnd(file: Buffer): number | undefined {
  let sum = crc32c(file.subarray(0, endMin))
  for (let end = endMin; end <= endMax; end += 4) {
    if (sum === file.readUInt32LE(end)) return end
    sum = crc32c(file.subarray(end, end + 4), sum)
  }
  return undefined
}
