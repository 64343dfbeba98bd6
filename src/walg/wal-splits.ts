/**
 * Where a long listing of `wal_005/` can be split: at the logs of its timelines. A log is the middle third of a segment's
 * name. How many there are is found by asking for the first key after a name that may not exist, further and further away.
 */
import type { ObjectInfo, Storage, StorageCallOptions } from '../storage/storage.ts'
import { walFolder } from './names.ts'

/** Fewer objects are listed as they come: as many as a bucket lists at a time. */
const fewMax = 1000
/** Objects that should be between two splits. */
const wantedBetween = 8000
/** Timelines that are looked at; what is after them is listed as it comes. */
const timelinesMax = 8
/** Splits of one timeline. */
const splitsMax = 2048
/** Looks between the last log that is known to be there and the first that is not. */
const roundsMax = 6
const looksOfRound = 8
/** Beyond the last log of any timeline. */
const logsEnd = 2 ** 32

/** A timeline as 8 hex digits, and a log of it. */
interface Place {
  readonly timeline: string
  readonly log: number
}

/**
 * Keys for {@link ListPagesOptions.splits}; none for a storage that has no use for them, and for few objects. Costs a page
 * of a listing, and some thirty requests for each timeline that has many.
 * @throws what the storage says
 */
export async function walSplits(
  storage: Pick<Storage, 'list' | 'listsInParallel'>,
  options?: StorageCallOptions,
): Promise<string[]> {
  if (!storage.listsInParallel) return []
  const first: Place[] = []
  let count = 0
  for await (const info of storage.list(walFolder, options)) {
    const place = placeOf(info)
    if (place) first.push(place)
    if (++count === fewMax) break
  }
  const start = first[0]
  if (count < fewMax || !start || !(await storage.listsInParallel(walFolder, options))) return []
  const logs = (first.findLast(({ timeline }) => timeline === start.timeline)?.log ?? start.log) - start.log + 1
  // Of a log that has more than that nobody knows how many it has.
  const step = logs === 1 ? 2 : Math.max(1, Math.round((wantedBetween * logs) / first.length))
  const splits: string[] = []
  let at: Place | undefined = start
  for (let index = 0; at && index < timelinesMax; index++) {
    const { last, next } = await lastLog(storage, at, step, options)
    const wide = step * Math.ceil((last - at.log) / step / splitsMax)
    for (let log = at.log + step; log <= last; log += wide) splits.push(keyOf({ timeline: at.timeline, log }))
    if (next) splits.push(`${walFolder}${next}`)
    at = next === undefined ? undefined : await firstFrom(storage, `${walFolder}${next}0`, options)
  }
  return splits
}

/**
 * About the last log of a timeline: the last that is known to have something, less than `step` before the end. Also the
 * timeline after it.
 */
async function lastLog(
  storage: Pick<Storage, 'list'>,
  { log, timeline }: Place,
  step: number,
  options?: StorageCallOptions,
): Promise<{ readonly last: number; readonly next: string | undefined }> {
  let [last, end] = [log, logsEnd]
  let next: string | undefined
  const look = async (logs: readonly number[]) => {
    const found = await Promise.all(logs.map((each) => firstFrom(storage, keyOf({ timeline, log: each }), options)))
    for (const [index, each] of found.entries()) {
      if (each?.timeline === timeline) last = Math.max(last, each.log)
      else {
        end = Math.min(end, logs[index]!)
        next = each?.timeline
      }
    }
  }
  // Mostly a timeline is short: one look shows that.
  await look([log + step])
  if (end > log + step) {
    const far: number[] = []
    for (let distance = step * 4; log + distance < logsEnd; distance *= 4) far.push(log + distance)
    await look(far)
  }
  for (let round = 0; round < roundsMax && end - last > step; round++) {
    const width = (end - last) / (looksOfRound + 1)
    await look(Array.from({ length: looksOfRound }, (_, index) => Math.ceil(last + width * (index + 1))))
  }
  return { last, next }
}

/** The first segment, history or other file of a timeline after a key; undefined where there is none. */
async function firstFrom(
  storage: Pick<Storage, 'list'>,
  startAfter: string,
  options?: StorageCallOptions,
): Promise<Place | undefined> {
  for await (const info of storage.list(walFolder, { ...options, startAfter, firstPageKeys: 1 })) return placeOf(info)
  return undefined
}

function placeOf({ key }: ObjectInfo): Place | undefined {
  const match = /^([0-9A-F]{8})(?:([0-9A-F]{8})[0-9A-F]{8}|\.history)/.exec(key.slice(walFolder.length))
  return match?.[1] === undefined ? undefined : { timeline: match[1], log: parseInt(match[2] ?? '0', 16) }
}

/** Before all that a log has. */
function keyOf({ log, timeline }: Place): string {
  return `${walFolder}${timeline}${log.toString(16).toUpperCase().padStart(8, '0')}`
}
