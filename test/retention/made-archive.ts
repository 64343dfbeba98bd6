/**
 * Archives as years of accidents leave them, drawn by chance: promotions with dead branches, upgrades that begin the
 * timelines again, deltas, permanent backups, holes, gap records, other tools' half-written backups, every codec. What
 * happened is kept beside the archive, so that a test knows the truth without asking the code.
 */
import { formatJson } from '../../src/primitives/json/json.ts'
import { formatLsn, type Lsn, toLsn } from '../../src/postgres/lsn.ts'
import { segmentName } from '../../src/postgres/wal/wal-file.ts'
import { sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { intentsPrefix, systemKey, tailKey } from '../../src/walg/names.ts'
import { gapKey } from '../../src/walg/wal/gap-records.ts'
import type { Random } from '../harness/random.ts'
import { MemoryStorage } from '../harness/store/memory-storage.ts'

/** Small ones, so that a few hundred of them are years. */
export const segmentBytes = 1024 * 1024
const hourMs = 3600_000

/** A backup as it was taken. */
export interface TrueBackup {
  readonly name: string
  /** Which server: an upgrade makes another one. */
  readonly server: number
  readonly timeline: number
  readonly first: number
  readonly last: number
  readonly startLsn: bigint
  readonly finishLsn: bigint
  readonly startMs: number
  readonly finishMs: number
  readonly parent: TrueBackup | undefined
  readonly isPermanent: boolean
}

/** Where a timeline of a server came from. */
export interface TrueTimeline {
  readonly parent: number
  /** Number of the segment that the switch lies in, and the place. */
  readonly segno: number
  readonly lsn: bigint
  /** What its history says. An upgraded server writes over the one of the server before. */
  readonly history: string
}

/** The end of a segment that the primary wrote, which is a moment to recover to. */
export interface Moment {
  readonly server: number
  readonly timeline: number
  readonly segno: number
  readonly timeMs: number
}

/** See the file's header. */
export interface MadeArchive {
  readonly storage: MemoryStorage
  readonly backups: readonly TrueBackup[]
  /** By server, then by timeline; timeline 1 of a server is missing. */
  readonly timelines: readonly ReadonlyMap<number, TrueTimeline>[]
  readonly moments: readonly Moment[]
  readonly nowMs: number
  /** What must stay whatever is asked for: objects of backups that are being written. */
  readonly untouchable: readonly string[]
}

/** What is drawn. */
export interface MakeOptions {
  readonly events: number
  /** Most frequent accidents only where one of them is looked at. Default all. */
  readonly isSimple?: boolean
  /** What happens at the end, instead of by chance; all backups of it are full ones, and nothing else happens. */
  readonly story?: readonly ('backup' | 'promote' | 'upgrade')[]
}

/** Draws an archive. */
export function makeArchive(random: Random, { events, isSimple = false, story }: MakeOptions): MadeArchive {
  const maker = new Maker(random, isSimple || story !== undefined, story !== undefined)
  maker.backup()
  for (let event = 0; event < events; event++) maker.step()
  for (const what of story ?? []) maker[what]()
  return maker.end()
}

const extensions = ['zst', 'lz4', 'lzma', 'br', '', 'lzo']

class Maker {
  readonly #random: Random
  readonly #isSimple: boolean
  readonly #isStory: boolean
  readonly #storage = new MemoryStorage()
  readonly #backups: TrueBackup[] = []
  readonly #timelines: Map<number, TrueTimeline>[] = [new Map()]
  readonly #moments: Moment[] = []
  readonly #untouchable: string[] = []
  #nowMs = Date.parse('2026-01-01T00:00:00Z')
  #server = 0
  #timeline = 1
  /** The segment that is being written. */
  #segno = 3

  constructor(random: Random, isSimple: boolean, isStory: boolean) {
    this.#random = random
    this.#isStory = isStory
    this.#isSimple = isSimple
    if (random.chance(0.5)) {
      this.#put(systemKey, formatJson({ SystemIdentifier: this.#systemId(), WalSegmentSize: segmentBytes }))
    }
  }

  step(): void {
    const dice = this.#random.next()
    if (this.#isSimple) return dice < 0.3 ? this.backup() : this.#write(this.#random.int(1, 6))
    if (dice < 0.45) this.#write(this.#random.int(1, 8))
    else if (dice < 0.8) this.backup()
    else if (dice < 0.92) this.promote()
    else this.upgrade()
  }

  end(): MadeArchive {
    this.#write(2)
    if (!this.#isSimple) this.#foreign()
    this.#put(tailKey(this.#name(this.#segno), { from: 0, to: 8192 }, 'zst'), 'tail')
    return {
      storage: this.#storage,
      backups: this.#backups,
      timelines: this.#timelines,
      moments: this.#moments,
      nowMs: this.#nowMs,
      untouchable: this.#untouchable,
    }
  }

  /** Takes a backup, which lasts for a segment or more. */
  backup(): void {
    const parent = this.#isStory ? undefined : this.#parent()
    const [server, timeline, first] = [this.#server, this.#timeline, this.#segno]
    const startLsn = BigInt(first * segmentBytes + 40)
    const startMs = this.#nowMs
    const last = first + this.#random.int(0, 2)
    while (this.#segno <= last) this.#write(1)
    const suffix = parent ? `_D_${/[0-9A-F]{24}/.exec(parent.name)?.[0]}` : ''
    const finishLsn = BigInt(last * segmentBytes + 512)
    const backup = {
      ...{ name: `base_${this.#name(first)}${suffix}`, server, timeline, first, last, startLsn, finishLsn, startMs },
      ...{ finishMs: this.#nowMs, parent, isPermanent: !this.#isSimple && this.#random.chance(0.1) },
    }
    this.#backups.push(backup)
    this.#store(backup)
  }

  /** Of the same server, on a timeline that led here. */
  #parent(): TrueBackup | undefined {
    if (this.#isSimple ? this.#random.chance(0.6) : this.#random.chance(0.4)) return undefined
    const line = new Set([this.#timeline])
    for (let at = this.#timelines[this.#server]?.get(this.#timeline); at;) {
      line.add(at.parent)
      at = this.#timelines[this.#server]?.get(at.parent)
    }
    const parents = this.#backups.filter((each) => each.server === this.#server && line.has(each.timeline)).slice(-3)
    // In a simple archive a delta builds on the last backup, as WAL-G's do.
    return parents.length === 0 || this.#isSimple ? parents.at(-1) : this.#random.pick(parents)
  }

  #store({ finishLsn, finishMs, name, parent, server, startLsn, startMs, ...backup }: TrueBackup): void {
    let isMarked = backup.isPermanent
    const inSentinel = this.#random.chance(0.5)
    const folder = `basebackups_005/${name}/`
    const times = { start: new Date(startMs).toISOString(), finish: new Date(finishMs).toISOString() }
    this.#put(`${folder}tar_partitions/part_001.tar.${this.#random.pick(['zst', 'lz4'])}`, 'part')
    this.#put(`${folder}tar_partitions/pg_control.tar.zst`, 'control')
    this.#put(`${folder}files_metadata.json`, '{}')
    if (this.#random.chance(0.9) || this.#isSimple || (isMarked && !inSentinel)) {
      const lsns = { start_lsn: startLsn, finish_lsn: finishLsn }
      const document = { start_time: times.start, finish_time: times.finish, is_permanent: isMarked && !inSentinel }
      this.#put(`${folder}metadata.json`, formatJson({ ...document, ...lsns }))
    } else isMarked &&= inSentinel
    const delta = parent && {
      ...{ DeltaFrom: parent.name, DeltaLSN: parent.startLsn, DeltaFullName: parent.name, DeltaCount: 1 },
    }
    const document = {
      ...{ LSN: startLsn, ...delta, FinishLSN: finishLsn, SystemIdentifier: this.#systemId(server), Version: 2 },
      ...{ StartTime: times.start, FinishTime: times.finish, IsPermanent: isMarked && inSentinel },
    }
    this.#put(sentinelKey(name), formatJson(document))
  }

  #write(count: number): void {
    for (let written = 0; written < count; written++) {
      this.#nowMs += this.#random.int(1, 4) * hourMs
      this.#archive(this.#timeline, this.#segno)
      const { timeline, segno } = { timeline: this.#timeline, segno: this.#segno }
      this.#moments.push({ server: this.#server, timeline, segno, timeMs: this.#nowMs })
      this.#segno++
    }
  }

  #archive(timeline: number, segno: number): void {
    const random = this.#random
    const name = segmentName(timeline, BigInt(segno), segmentBytes)
    if (!this.#isSimple && random.chance(0.02)) {
      const range = { startLsn: BigInt(segno * segmentBytes) as Lsn, endLsn: BigInt((segno + 1) * segmentBytes) as Lsn }
      if (random.chance(0.5)) this.#put(gapKey({ timeline, ...range }), '{}')
      return
    }
    this.#put(walObject(name, random.pick(extensions)), 'segment')
    if (random.chance(0.05)) this.#put(walObject(name, 'zst'), 'segment')
    if (random.chance(0.2)) this.#put(`wal_005/${name}.json`, '{}')
    if (random.chance(0.1)) this.#put(walObject(`${name}.00000028.backup`, 'lz4'), 'label')
    if (segno % 16 === 15)
      this.#put(`wal_005/${segmentName(timeline, BigInt(segno - 15), segmentBytes)}_delta.lz4`, 'd')
  }

  /** The primary is promoted away in the middle of a segment; the old one may go on for a while. */
  promote(): void {
    const parent = this.#timeline
    const own = this.#timelines[this.#server]!
    const lsn = BigInt(this.#segno * segmentBytes + 8 * this.#random.int(16, 1000))
    const switched = this.#segno
    this.#timeline = Math.max(parent, ...own.keys()) + 1
    const line = (from: number, at: bigint) => `${from}\t${formatLsn(toLsn(at))}\tno recovery target specified\n`
    const text = `${own.get(parent)?.history ?? ''}${line(parent, lsn)}`
    own.set(this.#timeline, { parent, segno: switched, lsn, history: text })
    const history = `${this.#timeline.toString(16).toUpperCase().padStart(8, '0')}.history`
    if (this.#random.chance(0.95)) this.#put(`wal_005/${history}`, text)
    if (this.#random.chance(0.5)) {
      this.#put(`wal_005/${segmentName(parent, BigInt(switched), segmentBytes)}.partial.zst`, 'partial')
    }
    if (this.#random.chance(0.3)) for (let more = 0; more < 3; more++) this.#archive(parent, switched + more)
  }

  /** pg_upgrade: another system identifier, timeline 1, and positions that go on at the next segment. */
  upgrade(): void {
    this.#nowMs += 26 * hourMs
    this.#server++
    this.#timelines.push(new Map())
    this.#timeline = 1
    this.#segno++
    this.backup()
  }

  /** Backups without a sentinel: one of another tool at work, one of a walrx at work, and one that is dead. */
  #foreign(): void {
    const young = `basebackups_005/base_${this.#name(this.#segno)}_D_${this.#segmentOfAny()}/tar_partitions/part_001.tar.lz4`
    this.#put(young, 'young')
    const name = `base_${this.#name(this.#segno + 1)}_D_${this.#segmentOfAny()}`
    const intent = `${intentsPrefix}${name}.json`
    this.#put(intent, formatJson({ owner: 'x', hostname: 'h', startedAt: new Date(this.#nowMs).toISOString() }))
    this.#untouchable.push(young, intent)
    const dead = `basebackups_005/base_${this.#name(2)}/tar_partitions/part_001.tar.lz4`
    this.#storage.seed(dead, 'dead', Date.parse('2025-12-01T00:00:00Z'))
  }

  #segmentOfAny(): string {
    return /[0-9A-F]{24}/.exec(this.#random.pick(this.#backups).name)?.[0] ?? ''
  }

  #name(segno: number): string {
    return segmentName(this.#timeline, BigInt(segno), segmentBytes)
  }

  #systemId(server = this.#server): bigint {
    return 7_000_000_000_000_000_000n + BigInt(server)
  }

  #put(key: string, text: string): void {
    this.#storage.seed(key, Buffer.from(text), this.#nowMs)
  }
}

function walObject(name: string, extension: string): string {
  return extension === '' ? `wal_005/${name}` : `wal_005/${name}.${extension}`
}
