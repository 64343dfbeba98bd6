/**
 * A fake cluster: a primary, standbys, former primaries, and perhaps a server of another cluster at one of the addresses.
 * Any of them may be shut down, and any standby may be promoted: in good order, after a loss, or apart from the rest.
 */
import { bytesBetween, type Lsn, maxLsn, type Timeline, toLsn } from '../../src/postgres/lsn.ts'
import { FakeHost, type Surroundings } from './fake-host.ts'
import { Lineage } from './lineage.ts'
import { firstLsn, systemId } from './recorded-wal.ts'

/** A promotion. */
export interface Promotion {
  /** WAL that the new timeline doesn't have. */
  readonly lostBytes: number
  /** Failed promotions leave numbers out. */
  readonly skippedIds: number
}

/** See the file's header. */
export class FakeCluster {
  /** All addresses, in the order in which they are tried. */
  readonly hosts: FakeHost[] = []
  primary: FakeHost
  /** A server of another cluster. */
  readonly stranger: FakeHost | undefined
  /** The server that was promoted apart from the others; undefined while there is none. */
  rival: FakeHost | undefined
  /** Former primaries that came back as if nothing had happened. */
  readonly zombies = new Set<FakeHost>()
  /** Hosts that are not to come back by themselves. */
  readonly gone = new Set<FakeHost>()
  readonly #around: Surroundings
  #count = 0

  /** Draws one to three hosts, and sometimes another cluster's server beside them. */
  constructor(around: Surroundings) {
    const { random } = around
    this.#around = around
    this.primary = new FakeHost(this.#nextName(), around)
    this.hosts.push(this.primary)
    for (let standbys = random.pick([0, 0, 1, 2]); standbys > 0; standbys--) this.#addStandby()
    if (random.chance(0.1)) {
      this.stranger = this.#insert(new FakeHost('stranger:5432', around, undefined, systemId + 1n))
    }
  }

  #nextName(): string {
    this.#count++
    return `host${this.#count}:5432`
  }

  #insert(host: FakeHost): FakeHost {
    this.hosts.splice(this.#around.random.int(0, this.hosts.length), 0, host)
    return host
  }

  #addStandby(): void {
    const standby = this.#insert(new FakeHost(this.#nextName(), this.#around, this.primary))
    standby.inRecovery = true
  }

  /** Standbys of the present primary. */
  get standbys(): FakeHost[] {
    return this.hosts.filter((host) => host.inRecovery)
  }

  /** The newest timeline of the present primary. */
  get timeline(): Timeline {
    return this.primary.timeline
  }

  /** The primary goes on on a new timeline: it was a standby that is promoted while we follow it. */
  promoteInPlace(skippedIds: number): void {
    this.#promote(this.primary, { lostBytes: 0, skippedIds })
  }

  /** The primary is lost, and another one takes its place, with less WAL perhaps. */
  failOver(promotion: Promotion): void {
    const { random } = this.#around
    const former = this.primary
    const heir = random.chance(0.8) ? this.standbys[0] : undefined
    former.cutAll()
    if (heir) {
      this.#promote(heir, { ...promotion, skippedIds: promotion.skippedIds }, former)
      this.#retire(former, random.pick(['returns as primary', 'rewound', 'gone']))
    } else {
      // The address is moved to a copy of the server; the old one may still answer at another.
      const copy = new FakeHost(former.name, this.#around, former)
      this.hosts[this.hosts.indexOf(former)] = copy
      this.#promote(copy, promotion, former)
      former.isUp = false
      if (random.chance(0.5)) return
      const moved = new FakeHost(this.#nextName(), this.#around, former)
      moved.takeOver(former)
      moved.timeline = former.timeline
      this.#insert(moved)
      this.zombies.add(moved)
    }
    if (random.chance(0.2)) this.primary.remove(this.primary.end)
  }

  /** The primary was shut down in good order: a standby takes its place with all of its WAL, and it follows that one. */
  switchOver(): boolean {
    const former = this.primary
    const heir = this.standbys[0]
    if (!heir) return false
    this.#promote(heir, { lostBytes: 0, skippedIds: 0 }, former)
    former.inRecovery = true
    former.isUp = true
    return true
  }

  /**
   * A standby that lacks some WAL is promoted apart from the rest: two servers that believe to be the primary. Two that
   * fork at the same byte have the same history file, and only their WAL differs; that is not modelled.
   */
  splitBrain(lostBytes: number): void {
    if (bytesBetween(maxLsn(this.primary.chain().newest.begin, firstLsn), this.primary.end) < lostBytes) return
    const rival = this.#insert(new FakeHost('rival:5432', this.#around, this.primary))
    rival.lineage = new Lineage(this.primary.lineage)
    this.rival = rival
    this.#fork(rival, { lostBytes, skippedIds: 0 }, this.primary)
  }

  #retire(former: FakeHost, how: 'returns as primary' | 'rewound' | 'gone'): void {
    if (how === 'returns as primary') this.zombies.add(former)
    else if (how === 'rewound') {
      // pg_rewind takes what the new primary has, and leaves no slots.
      former.slots.clear()
      former.inRecovery = true
    } else {
      former.isUp = false
      this.gone.add(former)
    }
  }

  #promote(host: FakeHost, promotion: Promotion, former: FakeHost = host): void {
    this.#fork(host, promotion, former)
    host.inRecovery = false
    host.isUp = true
    this.primary = host
    host.wakeAll()
  }

  #fork(host: FakeHost, { lostBytes, skippedIds }: Promotion, former: FakeHost): void {
    const old = former.timeline
    const begin = maxLsn(former.chain().newest.begin, firstLsn)
    const target = toLsn(former.end - BigInt(Math.min(lostBytes, Math.max(0, bytesBetween(begin, former.end)))))
    const switchpoint: Lsn = target < begin ? former.end : target
    const timeline = old + 1 + skippedIds
    host.lineage.fork(old, timeline, switchpoint)
    host.timeline = timeline
    host.end = switchpoint
  }

  /** Every host that should be up is. */
  startAll(): void {
    for (const host of this.hosts) if (!this.gone.has(host)) host.isUp = true
  }
}
