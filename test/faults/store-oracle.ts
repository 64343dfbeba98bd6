/** What a store must hold after what was reported, looked up in the bytes themselves. */
import assert from 'node:assert/strict'
import { addBytes, formatLsn, type Lsn, minLsn, segmentStart, type Timeline } from '../../src/postgres/lsn.ts'
import type { TimelineChain } from '../../src/postgres/timeline-chain.ts'
import { historyName, segmentNameAt } from '../../src/postgres/wal-file.ts'
import { parseGapKey } from '../../src/walg/gap-records.ts'
import { parseTailKey, type TailObjectName, type TailRange } from '../../src/walg/names.ts'
import { trimmedLength } from '../../src/walg/trimmed.ts'
import type { MemoryObject } from '../harness/memory-storage.ts'
import type { FakeCluster } from './fake-cluster.ts'
import { firstLsn, lastLsn, segmentSize } from './recorded-wal.ts'

const segmentKey = /^wal_005\/([0-9A-F]{8})([0-9A-F]{16})$/

/** As Buffer.equals, at once where both are the same memory. */
function isSame(a: Buffer, b: Buffer): boolean {
  return (a.buffer === b.buffer && a.byteOffset === b.byteOffset && a.length === b.length) || a.equals(b)
}

/** See the file's header. */
export class StoreOracle {
  readonly #cluster: FakeCluster
  readonly #objects: ReadonlyMap<string, MemoryObject>
  readonly #verified = new WeakSet<MemoryObject>()
  /** Where the first stream began: what is older is not ours. */
  #runStart: Lsn | undefined
  #firstArchived: { readonly timeline: Timeline; readonly start: Lsn } | undefined

  constructor(cluster: FakeCluster, objects: ReadonlyMap<string, MemoryObject>) {
    this.#cluster = cluster
    this.#objects = objects
  }

  /** What a segment or a chunk of this name holds where it is right; undefined for other objects. */
  truth(key: string): Buffer | undefined {
    const chunk = parseTailKey(key)
    const [, timeline, segno] = segmentKey.exec(key) ?? []
    const name = chunk?.segment ?? (timeline !== undefined && segno !== undefined ? timeline + segno : undefined)
    if (name === undefined) return undefined
    const start = BigInt(`0x${name.slice(16)}`) * BigInt(segmentSize)
    const { from, to } = chunk ?? { from: 0, to: segmentSize }
    if (!this.#cluster.timelines.has(parseInt(name.slice(0, 8), 16))) return undefined
    return this.#cluster.wal(parseInt(name.slice(0, 8), 16), (start + BigInt(from)) as Lsn, (start + BigInt(to)) as Lsn)
  }

  /** Every segment from the first stream's start up to `flush` is in the store, with the server's bytes. */
  checkDurable(timeline: Timeline, flush: Lsn): void {
    const chain = this.#cluster.chain(timeline)
    for (let start = this.#oldest(); start < flush; start = addBytes(start, segmentSize)) {
      const last = minLsn(addBytes(start, segmentSize), flush) - 1n
      // What was reported on a timeline before it ended is on that one.
      const owner = chain.at(last as Lsn).timeline
      const name = segmentNameAt(owner, start, segmentSize)
      const object = this.#objects.get(`wal_005/${name}`)
      if (!object && this.#isHeldInParts(chain, owner, start, last as Lsn)) continue
      if (!object && this.isLost(start)) continue
      assert.ok(object, `flush ${formatLsn(flush)} reported, but ${name} is not in the store`)
      if (this.#verified.has(object)) continue
      const truth = this.#cluster.wal(owner, start, addBytes(start, segmentSize))
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
  #isHeldInParts(chain: TimelineChain, owner: Timeline, start: Lsn, last: Lsn): boolean {
    for (const { begin, timeline } of chain.links) {
      if (timeline < owner || begin >= addBytes(start, segmentSize)) continue
      const name = segmentNameAt(timeline, start, segmentSize)
      if (this.#inChunks(name, start) > last - start) return true
      for (const object of [this.#objects.get(`wal_005/${name}`), this.#objects.get(`wal_005/${name}.partial`)]) {
        const truth = this.#cluster.wal(timeline, start, addBytes(last, 1))
        if (object?.bytes.subarray(0, truth.length).equals(truth)) return true
      }
    }
    return false
  }

  /** How many bytes of a segment its chunks have, from the first on; every chunk is looked at once. */
  #inChunks(name: string, start: Lsn): bigint {
    let covered = 0
    for (const { key, object, range } of this.#chunks(name)) {
      if (!this.#verified.has(object)) this.#checkChunk(key, object, start)
      this.#verified.add(object)
      if (range.from <= covered) covered = Math.max(covered, range.to)
    }
    return BigInt(covered)
  }

  #chunks(name: string): { key: string; object: MemoryObject; range: TailRange }[] {
    const found = []
    for (const [key, object] of this.#objects) {
      const range = parseTailKey(key)
      if (range?.segment === name) found.push({ key, object, range })
    }
    return found.sort((a, b) => a.range.from - b.range.from || a.range.to - b.range.to)
  }

  #checkChunk(key: string, object: MemoryObject, start: Lsn): void {
    const { from, segment, to } = parseTailKey(key) as TailObjectName
    const timeline = parseInt(segment.slice(0, 8), 16)
    const truth = this.#cluster.wal(timeline, addBytes(start, from), addBytes(start, to))
    assert.ok(isSame(object.bytes, truth), `${key} is not what the server sent`)
  }

  /** The first segment of the archive: it begins where the first slot did. */
  #oldest(): Lsn {
    if (this.#runStart !== undefined) return this.#runStart
    for (let start = firstLsn; start < lastLsn; start = addBytes(start, segmentSize)) {
      const present = [...this.#cluster.timelines.keys()].some((timeline) => {
        const name = segmentNameAt(timeline, start, segmentSize)
        return this.#objects.has(`wal_005/${name}`) || this.#chunks(name).length > 0
      })
      if (present) return (this.#runStart = start)
    }
    return lastLsn
  }

  /** The end: whole segments of every link of the chain, partials of the finished ones, histories. */
  checkEverything(): void {
    this.checkDurable(this.#cluster.timeline, lastLsn)
    const chain = this.#cluster.chain()
    for (const { timeline, begin, end } of chain.links) {
      if (begin === lastLsn) continue
      if (timeline > 1)
        assert.ok(this.#objects.has(`wal_005/${historyName(timeline)}`), `history of ${timeline} is missing`)
      if (
        end !== undefined &&
        !this.isLost(segmentStart(end, segmentSize)) &&
        this.#isOurs(timeline, end) &&
        end !== segmentStart(end, segmentSize)
      )
        this.#checkTail(timeline, end)
    }
    for (const [key, object] of this.#objects) this.#checkObject(key, object)
    for (const [key, object] of this.#objects) {
      const chunk = parseTailKey(key)
      if (chunk) this.#checkChunk(key, object, (BigInt(`0x${chunk.segment.slice(16)}`) * BigInt(segmentSize)) as Lsn)
    }
  }

  /** True when WAL of this timeline before `end` came after the first segment that was ever archived. */
  #isOurs(timeline: Timeline, end: Lsn): boolean {
    const first = this.#firstArchived
    return first !== undefined && timeline >= first.timeline && end > first.start
  }

  /** Remembers the first archived segment: what is older was never ours. */
  noteFirst(): void {
    if (this.#firstArchived) return
    for (const key of [...this.#objects.keys()].sort()) {
      const match = /^wal_005\/([0-9A-F]{8})[0-9A-F]{8}([0-9A-F]{8})$/.exec(key)
      if (!match) continue
      const start = (BigInt(parseInt(match[2] ?? '', 16)) * BigInt(segmentSize)) as Lsn
      this.#firstArchived = { timeline: parseInt(match[1] ?? '', 16), start }
      return
    }
  }

  /** WAL of a finished timeline up to its end: in the whole segment that went on past it, or in the partial. */
  #checkTail(timeline: Timeline, end: Lsn): void {
    const start = segmentStart(end, segmentSize)
    const name = segmentNameAt(timeline, start, segmentSize)
    const object = this.#objects.get(`wal_005/${name}`) ?? this.#objects.get(`wal_005/${name}.partial`)
    assert.ok(object, `neither ${name} nor its partial is in the store`)
    const truth = this.#cluster.wal(timeline, start, end)
    assert.ok(
      object.bytes.subarray(0, truth.length).equals(truth),
      `the tail of timeline ${timeline} is not what the server had`,
    )
  }

  /** Whatever is in the store is a prefix of what some server sent on that timeline. */
  #checkObject(key: string, object: MemoryObject): void {
    const match = /^wal_005\/([0-9A-F]{8})([0-9A-F]{16})(\.partial)?$/.exec(key)
    if (!match) return
    const timeline = parseInt(match[1] ?? '', 16)
    const start = (BigInt(parseInt((match[2] ?? '').slice(8), 16)) * BigInt(segmentSize)) as Lsn
    const truth = this.#cluster.wal(timeline, start, addBytes(start, segmentSize))
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
