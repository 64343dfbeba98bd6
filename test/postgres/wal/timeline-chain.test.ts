import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { type Lsn, parseLsn, toLsn } from '../../../src/postgres/lsn.ts'
import { TimelineChain } from '../../../src/postgres/wal/timeline-chain.ts'

/** Timelines with increasing numbers and switchpoints that do not decrease, as in history files. */
const anyChain = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 3 }), fc.integer({ min: 0, max: 100 })), { maxLength: 6 })
  .map((steps) => {
    let timeline = 0
    let switchpoint = 0n
    const entries = steps.map(([skip, bytes]) => {
      timeline += skip
      switchpoint += BigInt(bytes)
      return { timeline, switchpoint: toLsn(switchpoint) }
    })
    return { chain: new TimelineChain(timeline + 1, entries), entries, end: switchpoint }
  })

describe('TimelineChain', () => {
  test('every byte belongs to exactly one timeline, that which had not ended yet', () => {
    fc.assert(
      fc.property(anyChain, fc.nat({ max: 700 }), ({ chain, entries }, offset) => {
        const lsn = toLsn(BigInt(offset))
        const owner = chain.at(lsn)
        const expected = entries.find(({ switchpoint }) => lsn < switchpoint)?.timeline ?? chain.newest.timeline
        assert.equal(owner.timeline, expected)
        assert.ok(owner.begin <= lsn && (owner.end === undefined || lsn < owner.end))
      }),
    )
  })

  test('its links touch each other, and each is followed by the next', () => {
    fc.assert(
      fc.property(anyChain, ({ chain, entries }) => {
        assert.equal(chain.links.length, entries.length + 1)
        chain.links.forEach((link, index) => {
          const next = chain.links[index + 1]
          assert.equal(link.end, next?.begin)
          assert.deepEqual(chain.after(link.timeline), next)
          assert.deepEqual(chain.link(link.timeline), link)
        })
        assert.equal(chain.newest.end, undefined)
      }),
    )
  })

  test('knows nothing of timelines that are no ancestors', () => {
    const chain = new TimelineChain(5, [{ timeline: 1, switchpoint: parseLsn('0/5000000') }])
    assert.equal(chain.link(2), undefined)
    assert.equal(chain.after(2), undefined)
    assert.equal(chain.after(5), undefined)
  })

  test('a timeline without a byte of its own is passed over, but not forgotten', () => {
    const fork = parseLsn('0/5000000')
    const chain = new TimelineChain(3, [
      { timeline: 1, switchpoint: fork },
      { timeline: 2, switchpoint: fork },
    ])
    assert.equal(chain.at((fork - 1n) as Lsn).timeline, 1)
    assert.equal(chain.at(fork).timeline, 3)
    assert.deepEqual(chain.after(1), { timeline: 2, begin: fork, end: fork })
  })

  test('the first timeline of all has no ancestors', () => {
    const { newest, links } = new TimelineChain(1, [])
    assert.deepEqual(links, [{ timeline: 1, begin: 0n, end: undefined }])
    assert.equal(newest.timeline, 1)
  })
})
