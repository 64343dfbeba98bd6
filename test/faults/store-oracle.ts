/** What a store must hold after what was reported, looked up in the bytes themselves. */
import assert from 'node:assert/strict'
import { addBytes, formatLsn, type Lsn, minLsn, segmentStart, type Timeline, toLsn } from '../../src/postgres/lsn.ts'
import type { TimelineChain } from '../../src/postgres/wal/timeline-chain.ts'
import { historyName, segmentNameAt } from '../../src/postgres/wal/wal-file.ts'
import { parseGapKey } from '../../src/walg/wal/gap-records.ts'
import { parseTailKey, tailFolderOf, type TailObjectName, type TailRange } from '../../src/walg/names.ts'
import { trimmedLength } from '../../src/walg/wal/zero-padding.ts'
import type { MemoryObject } from '../harness/store/memory-storage.ts'
import type { Lineage } from './lineage.ts'
import { firstLsn, lastLsn, segmentSize } from './recorded-wal.ts'

/** What the oracle looks up: the objects as they are without encryption. */
export interface ClearObjects extends Iterable<[string, MemoryObject]> {
  get(key: string): MemoryObject | undefined
  has(key: string): boolean
  keys(): Iterable<string>
}

const segmentKey = /^wal_005\/([0-9A-F]{8})([0-9A-F]{16})$/

function startOf(segment: string): Lsn {
  return toLsn(BigInt(`0x${segment.slice(16)}`) * BigInt(segmentSize))
}

function truthOf(lineage: Lineage, timeline: Timeline, start: Lsn, end: Lsn): Buffer {
  const bytes = lineage.wal(timeline, start, end)
  assert.ok(bytes, `no server has ever had timeline ${timeline}`)
  return bytes
}

/** As Buffer.equals, at once where both are the same memory. */
function isSame(a: Buffer, b: Buffer): boolean {
  return (a.buffer === b.buffer && a.byteOffset === b.byteOffset && a.length === b.length) || a.equals(b)
}

/** See the file's header. */
export class StoreOracle {
  readonly #lineages: () => readonly Lineage[]
  readonly #objects: ClearObjects
  readonly #torn: ReadonlySet<string>
  readonly #verified = new WeakSet<MemoryObject>()
  /** By name of a segment, the last byte of it that was reported: no gap excuses what comes before. */
  readonly #promised = new Map<string, Lsn>()
  /** Where each slot's receiver last began to stream. */
  readonly #starts = new Map<string, Lsn>()
  /** By slot, where the WAL begins that was promised to the server. */
  readonly #owedFrom = new Map<string, Lsn>()
  #firstArchived: { readonly timeline: Timeline; readonly start: Lsn } | undefined

  /**
   * @param lineages what servers may rightly have sent
   * @param torn keys of objects that a put has left torn, and nobody has missed
   */
  constructor(lineages: () => readonly Lineage[], objects: ClearObjects, torn: ReadonlySet<string>) {
    this.#lineages = lineages
    this.#torn = torn
    this.#objects = objects
  }

  /** What a segment or a chunk of this name may hold; none for other objects. */
  truths(key: string): Buffer[] {
    const chunk = parseTailKey(key)
    const [, timeline, segno] = segmentKey.exec(key) ?? []
    const name = chunk?.segment ?? (timeline !== undefined && segno !== undefined ? timeline + segno : undefined)
    if (name === undefined) return []
    const start = startOf(name)
    const { from, to } = chunk ?? { from: 0, to: segmentSize }
    const id = parseInt(name.slice(0, 8), 16)
    return this.#lineages().flatMap((lineage) => lineage.wal(id, addBytes(start, from), addBytes(start, to)) ?? [])
  }

  /** A receiver asks for WAL from `start` on. */
  streamBegan(slot: string, start: Lsn): void {
    this.#starts.set(slot, start)
  }

  /** A receiver reports `flush` on a timeline: everything that it owes up to there is in the store, with the right bytes. */
  checkFlush(slot: string, lineage: Lineage, timeline: Timeline, flush: Lsn): void {
    let from = this.#owedFrom.get(slot)
    if (from === undefined) {
      const begun = segmentStart(this.#starts.get(slot) ?? firstLsn, segmentSize)
      // What one receiver alone has archived before it was killed counts as well.
      from = this.#starts.size === 1 ? minLsn(begun, this.#oldest()) : begun
      this.#owedFrom.set(slot, from)
    }
    this.#checkDurable(lineage, timeline, from, flush)
  }

  #checkDurable(lineage: Lineage, timeline: Timeline, from: Lsn, flush: Lsn): void {
    const chain = lineage.chain(timeline)
    for (let start = from; start < flush; start = addBytes(start, segmentSize)) {
      const last = minLsn(addBytes(start, segmentSize), flush) - 1n
      // What was reported on a timeline before it ended is on that one.
      const owner = chain.at(last as Lsn).timeline
      const name = segmentNameAt(owner, start, segmentSize)
      const key = `wal_005/${name}`
      const object = this.#torn.has(key) ? undefined : this.#objects.get(key)
      const isThere = object !== undefined || this.#isHeldInParts(lineage, chain, owner, start, last as Lsn)
      const promised = this.#promised.get(name)
      if (!isThere && this.isLost(start)) {
        const isKept = promised === undefined || this.#isHeldInParts(lineage, chain, owner, start, promised)
        assert.ok(isKept, `${name} was reported up to ${formatLsn(promised ?? start)}, and is lost`)
        continue
      }
      assert.ok(isThere, `flush ${formatLsn(flush)} reported, but ${name} is not in the store`)
      if (promised === undefined || promised < last) this.#promised.set(name, last as Lsn)
      if (!object || this.#verified.has(object)) continue
      const truth = truthOf(lineage, owner, start, addBytes(start, segmentSize))
      assert.ok(isSame(object.bytes, truth), `${name} is not what the server has`)
      this.#verified.add(object)
    }
  }

  /** True when a recorded gap says that the segment at `start` is lost, or a part of it. */
  isLost(start: Lsn): boolean {
    for (const key of this.#objects.keys()) {
      const gap = parseGapKey(key)
      if (gap && gap.startLsn < addBytes(start, segmentSize) && gap.endLsn > start) return true
    }
    return false
  }

  /**
   * True when the WAL up to the byte `last` of an unfinished segment is in the chunks or the partial of its timeline, or
   * in what a later timeline has copied of it.
   */
  #isHeldInParts(lineage: Lineage, chain: TimelineChain, owner: Timeline, start: Lsn, last: Lsn): boolean {
    for (const { begin, timeline } of chain.links) {
      if (timeline < owner || begin >= addBytes(start, segmentSize)) continue
      const name = segmentNameAt(timeline, start, segmentSize)
      if (this.#inChunks(lineage, name, start) > last - start) return true
      for (const object of [this.#objects.get(`wal_005/${name}`), this.#objects.get(`wal_005/${name}.partial`)]) {
        const truth = truthOf(lineage, timeline, start, addBytes(last, 1))
        if (object?.bytes.subarray(0, truth.length).equals(truth)) return true
      }
    }
    return false
  }

  /** How many bytes of a segment its chunks have, from the first on; every chunk is looked at once. */
  #inChunks(lineage: Lineage, name: string, start: Lsn): bigint {
    let covered = 0
    for (const { key, object, range } of this.#chunks(name)) {
      if (this.#torn.has(key)) continue
      if (!this.#verified.has(object)) this.#checkChunk(lineage, key, object, start)
      this.#verified.add(object)
      if (range.from <= covered) covered = Math.max(covered, range.to)
    }
    return BigInt(covered)
  }

  #chunks(name: string): { key: string; object: MemoryObject; range: TailRange }[] {
    const found = []
    const folder = tailFolderOf(name)
    for (const [key, object] of this.#objects) {
      const range = key.startsWith(folder) ? parseTailKey(key) : undefined
      if (range) found.push({ key, object, range })
    }
    return found.sort((a, b) => a.range.from - b.range.from || a.range.to - b.range.to)
  }

  #checkChunk(lineage: Lineage, key: string, object: MemoryObject, start: Lsn): void {
    const { from, segment, to } = parseTailKey(key) as TailObjectName
    const timeline = parseInt(segment.slice(0, 8), 16)
    const truth = truthOf(lineage, timeline, addBytes(start, from), addBytes(start, to))
    assert.ok(isSame(object.bytes, truth), `${key} is not what the server sent`)
  }

  /** The first segment of the archive. */
  #oldest(): Lsn {
    for (let start = firstLsn; start < lastLsn; start = addBytes(start, segmentSize)) {
      const timelines = new Set(this.#lineages().flatMap((lineage) => lineage.timelines))
      const present = [...timelines].some((timeline) => {
        const name = segmentNameAt(timeline, start, segmentSize)
        return this.#objects.has(`wal_005/${name}`) || this.#chunks(name).length > 0
      })
      if (present) return start
    }
    return lastLsn
  }

  /** The end of a schedule: whole segments of every link of the chain, partials of the finished ones, histories. */
  checkChain(lineage: Lineage, timeline: Timeline): void {
    for (const from of this.#owedFrom.values()) this.#checkDurable(lineage, timeline, from, lastLsn)
    for (const { timeline: id, begin, end } of lineage.chain(timeline).links) {
      if (begin === lastLsn) continue
      if (id > 1) assert.ok(this.#objects.has(`wal_005/${historyName(id)}`), `history of ${id} is missing`)
      if (
        end !== undefined &&
        !this.isLost(segmentStart(end, segmentSize)) &&
        this.#isOurs(id, end) &&
        end !== segmentStart(end, segmentSize)
      )
        this.#checkTail(lineage, id, end)
    }
  }

  /** Whatever is in the archive is what some server sent on that timeline, and of one and the same history. */
  checkObjects(): void {
    for (const [key, object] of this.#objects) if (!this.#torn.has(key)) this.#checkObject(key, object)
    for (const [key, object] of this.#objects) {
      const chunk = this.#torn.has(key) ? undefined : parseTailKey(key)
      if (chunk) this.#checkChunk(this.#lineageOf(key, chunk.segment), key, object, startOf(chunk.segment))
    }
  }

  /** The lineage with the archived history, where two have given the same number to a timeline. */
  #lineageOf(key: string, name: string): Lineage {
    const timeline = parseInt(name.slice(0, 8), 16)
    const known = this.#lineages().filter((lineage) => lineage.timelines.includes(timeline))
    const history = this.#objects.get(`wal_005/${historyName(timeline)}`)?.bytes
    const right = known.find((lineage) => timeline === 1 || history?.equals(lineage.history(timeline) as Buffer))
    assert.ok(right, `${key} is of a timeline that has no history in the archive`)
    return right
  }

  /** True when WAL of this timeline before `end` came after the first segment that was ever archived. */
  #isOurs(timeline: Timeline, end: Lsn): boolean {
    const first = this.#firstArchived
    return first !== undefined && timeline >= first.timeline && end > first.start
  }

  /** Remembers the first archived segment: what is older was never ours. A torn one will be set aside. */
  noteFirst(): void {
    if (this.#firstArchived) return
    for (const key of [...this.#objects.keys()].sort()) {
      const match = /^wal_005\/([0-9A-F]{8})[0-9A-F]{8}([0-9A-F]{8})$/.exec(key)
      if (!match || this.#torn.has(key)) continue
      const start = (BigInt(parseInt(match[2] ?? '', 16)) * BigInt(segmentSize)) as Lsn
      this.#firstArchived = { timeline: parseInt(match[1] ?? '', 16), start }
      return
    }
  }

  /** WAL of a finished timeline up to its end: in the whole segment that went on past it, or in the partial. */
  #checkTail(lineage: Lineage, timeline: Timeline, end: Lsn): void {
    const start = segmentStart(end, segmentSize)
    const name = segmentNameAt(timeline, start, segmentSize)
    const object = this.#objects.get(`wal_005/${name}`) ?? this.#objects.get(`wal_005/${name}.partial`)
    assert.ok(object, `neither ${name} nor its partial is in the store`)
    const truth = truthOf(lineage, timeline, start, end)
    assert.ok(
      object.bytes.subarray(0, truth.length).equals(truth),
      `the tail of timeline ${timeline} is not what the server had`,
    )
  }

  /** Whatever is in the store is a prefix of what some server sent on that timeline. */
  #checkObject(key: string, object: MemoryObject): void {
    const match = /^wal_005\/([0-9A-F]{8})([0-9A-F]{16})(\.partial)?$/.exec(key)
    if (!match) return
    const name = `${match[1]}${match[2]}`
    const start = startOf(name)
    const lineage = this.#lineageOf(key, name)
    const truth = truthOf(lineage, parseInt(match[1] ?? '', 16), start, addBytes(start, segmentSize))
    assert.equal(object.bytes.length, segmentSize, `${key} is no whole segment`)
    if (!match[3]) assert.ok(isSame(object.bytes, truth), `${key} is not what the server has`)
    else {
      const length = trimmedLength(object.bytes)
      assert.ok(
        object.bytes.subarray(0, length).equals(truth.subarray(0, length)),
        `${key} is not what the server sent`,
      )
    }
  }
}
