/**
 * How receivers of WAL have lost data or hung in the field, as their change logs and issues report, and which test shows
 * on a real server that walrx does not, with a real S3 API where the store matters. The list checks itself: every test
 * that it names is there under that very name.
 */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

/** A file below `test/`, and the name of a test as its source has it, placeholders included. */
type Shown = readonly [file: string, name: string]

interface FieldFailure {
  readonly number: number
  /** What went wrong elsewhere. */
  readonly what: string
  readonly shown: readonly Shown[]
  /** What of it does not concern walrx, and why. */
  readonly leftOut?: string
}

const shutdown: Shown = [
  'e2e/receive/store-out.s3.test.ts',
  'a fast shutdown comes to its end, and the slot keeps what is not archived (${kind})',
]
const switchover: Shown = [
  'e2e/receive/store-out.s3.test.ts',
  'a switchover loses nothing: what only walrx holds is archived when the bucket is back',
]
const lostMeanwhile: Shown = [
  'e2e/receive/reconnect.pg.test.ts',
  'WAL that was lost meanwhile is a gap, where we were ${where}',
]
const otherCluster: Shown = [
  'e2e/receive/reconnect.pg.test.ts',
  'another cluster, on timeline 1 again, is refused by a receiver that runs and by a new one',
]
const slotRemade: Shown = ['e2e/gap/gaps.pg.test.ts', 'was dropped and created again above what is archived']
const cutConnections: Shown = ['e2e/receive/crashes.pg.test.ts', 'connections that are cut in the middle of a message']
const refusingStore: Shown = [
  'e2e/receive/slow-store.s3.test.ts',
  'a store that answers ${mode} for a while: memory stays, and all is archived afterwards',
]
const slowPut: Shown = [
  'e2e/receive/slow-store.s3.test.ts',
  'a put that takes longer than wal_sender_timeout does not cost the connection',
]
const promotions: Shown = ['e2e/recovery/point-in-time.pg.test.ts', 'recovers to moments on both sides of a promotion']

const failures: readonly FieldFailure[] = [
  {
    number: 1,
    what: 'The receiver reports a flush position that never reaches the end of WAL while its store is slow or out, so that a fast shutdown of the server never ends; or it reports one to let it end, and the slot moves past what was not archived.',
    shown: [shutdown],
  },
  {
    number: 2,
    what: 'A switchover while the store hangs: the cluster manager waits for the old primary to stop, or the WAL that only the receiver has is dropped when the new primary answers.',
    shown: [switchover],
  },
  {
    number: 3,
    what: "After a promotion the receiver goes on at the new timeline and leaves out the old one's last, unfinished bytes.",
    shown: [['e2e/receive/crashes.pg.test.ts', 'the promotion of a standby that we follow'], promotions],
  },
  {
    number: 4,
    what: 'Each connection begins with an empty memory of where the WAL before it ended, so that a hole between two connections is seen by nobody.',
    shown: [lostMeanwhile, cutConnections],
  },
  {
    number: 5,
    what: 'A hole that begins exactly where a segment ends looks like the ordinary next segment.',
    shown: [lostMeanwhile, slotRemade],
  },
  {
    number: 6,
    what: 'Of a cluster that is on timeline 5 when it is first seen only the last history file is archived; a recovery from an older backup does not find its way.',
    shown: [
      [
        'e2e/gap/ancestors.pg.test.ts',
        'the history of every ancestor is archived when timeline 5 is the first that is seen',
      ],
    ],
  },
  {
    number: 7,
    what: 'The receiver reports as applied what it holds in memory, and answers commits with remote_apply that no replica can show yet.',
    shown: [
      [
        'e2e/rpo/remote-apply.pg.test.ts',
        'a commit with remote_apply is never acknowledged, one with remote_write when it is durable',
      ],
    ],
  },
  {
    number: 8,
    what: 'Somebody drops the slot and creates it again above what is archived; streaming goes on, and nothing reports that a recovery cannot pass the gap.',
    shown: [slotRemade],
  },
  {
    number: 9,
    what: 'A base backup ends before streaming begins; the WAL between them was kept by nobody, and the backup is listed as good.',
    shown: [
      [
        'e2e/backup/backup-facts.pg.test.ts',
        'a backup is none to recover from if its WAL was gone before a receiver came',
      ],
      [
        'e2e/backup/backup-kills.pg.test.ts',
        'of walrx while it waits for WAL: the backup is none until it is finished',
      ],
    ],
  },
  {
    number: 10,
    what: 'Another cluster answers at the same host and port, after initdb or pg_upgrade, and its WAL goes into the archive of the first.',
    shown: [otherCluster, ['e2e/bad-input.pg.test.ts', 'an archive of another cluster']],
  },
  {
    number: 11,
    what: 'A former primary comes back writable, and the receiver follows it again.',
    shown: [
      switchover,
      [
        'e2e/recovery/former-primary.pg.test.ts',
        'the new primary is taken, though the former one is first and can be written',
      ],
      ['e2e/recovery/switchover.pg.test.ts', 'through ${rounds} failovers'],
    ],
  },
  {
    number: 12,
    what: 'The restore_command fails in the same way for "the store is out" as for "there is no such file": the recovery ends early, and the server promotes itself with data missing.',
    shown: [
      [
        'e2e/recovery/recovery-store.s3.test.ts',
        'a recovery from a bucket that goes out ends without promotion, and goes on when it is back',
      ],
      [
        'restore/recovery/recovery.pg.test.ts',
        'stops when the storage is out, ${what}, and goes on to the end when started again',
      ],
    ],
  },
  {
    number: 13,
    what: 'A store that refuses everything for hours lets the memory of the receiver grow until it is killed, and nothing reports that the slot fills the disk of the server.',
    shown: [
      refusingStore,
      [
        'e2e/receive/store-out.s3.test.ts',
        'one that refuses everything: an alert says how much the slot keeps, and all is archived afterwards',
      ],
    ],
  },
  {
    number: 14,
    what: 'A status message cannot be sent any more, or goes nowhere; the error is lost in a background task, and the receiver waits for WAL for ever.',
    shown: [
      [
        'e2e/receive/idle-and-timeouts.pg.test.ts',
        'a network that swallows everything is noticed, and a new connection is made',
      ],
      cutConnections,
    ],
  },
  {
    number: 15,
    what: 'While the server is away the background upload takes the unfinished segment for a whole one and archives it, or deletes it (pgrwl).',
    shown: [
      [
        'e2e/receive/reconnect.pg.test.ts',
        'the beginning of a segment stays in the archive while nobody is connected, and is no segment',
      ],
    ],
  },
  {
    number: 16,
    what: 'After a minute of silence the unfinished segment is filled up and archived; what the server writes into it later is lost (pghoard).',
    shown: [
      [
        'e2e/receive/idle-and-timeouts.pg.test.ts',
        'an idle server does not end a segment: what comes later goes into the same one',
      ],
    ],
  },
  {
    number: 17,
    what: 'The flush position moves although the upload has failed (pghoard).',
    shown: [refusingStore],
  },
  {
    number: 18,
    what: 'The thread that uploads is the one that answers the server: an upload longer than wal_sender_timeout ends the connection, again and again (WAL-G).',
    shown: [slowPut],
  },
  {
    number: 19,
    what: 'The stream goes on at a later position, and the segment that was begun is published with a hole in it (WAL-RUS).',
    shown: [lostMeanwhile],
  },
  {
    number: 20,
    what: 'The local spool of the receiver fills its disk, and WAL that is counted as safe is not written.',
    shown: [
      [
        'e2e/receive/disk-full.pg.test.ts',
        'under the archive: nothing more is acknowledged, and all is archived when there is room',
      ],
    ],
    leftOut: 'walrx has no spool; what is left is the disk of an archive in a directory.',
  },
  {
    number: 21,
    what: 'Killed between writing, renaming, uploading, deleting and acknowledging, a receiver has acknowledged what is not there, or takes half a file for a whole one.',
    shown: [
      ['e2e/receive/kill-steps.s3.test.ts', 'at each system call of an archive in a directory'],
      ['e2e/receive/kill-steps.s3.test.ts', 'at each request of an archive in a bucket, and at an acknowledgement'],
      ['e2e/receive/crashes.pg.test.ts', '${kills} kills of walrx at random moments'],
      ['e2e/backup/backup-kills.pg.test.ts', 'of walrx or the server at ${pushCount} moments of a backup'],
    ],
  },
  {
    number: 22,
    what: 'Two receivers write to one bucket and overwrite what the other has stored.',
    shown: [
      ['e2e/receive/shared-archive.s3.test.ts', 'two receivers write to one directory'],
      ['e2e/receive/shared-archive.s3.test.ts', 'two receivers write to one bucket'],
      ['e2e/receive/two-receivers.s3.test.ts', 'of one server archive the same, each all of it'],
    ],
  },
  {
    number: 23,
    what: 'The store has carried a put out and the connection breaks before the answer: the conditional retry meets its own object and takes it for a conflict.',
    shown: [
      ['e2e/receive/slow-store.s3.test.ts', 'answers that are lost: what is there already is compared and counts'],
    ],
  },
  {
    number: 24,
    what: 'pg_upgrade sets the timeline back to 1, and retention, which goes by names, takes the new segments for old ones and deletes them (WAL-G issues 636 and 1288).',
    shown: [otherCluster],
    leftOut:
      'walrx deletes no segments; what is left is that the upgraded cluster must not come into the same archive.',
  },
  {
    number: 25,
    what: 'Names, boundaries and gaps are computed for segments of 16 MB when the cluster has others.',
    shown: [
      ['e2e/backup/identical.pg.test.ts', 'PostgreSQL ${major}, segments of ${segmentSizeMb} MB, ${count} switches'],
    ],
  },
  {
    number: 26,
    what: 'The process stands still for half a minute, by a blocked event loop or a frozen machine, is dropped by the server and does not find back.',
    shown: [
      [
        'e2e/receive/idle-and-timeouts.pg.test.ts',
        'a walrx that stands still for longer than wal_sender_timeout is dropped, and comes back',
      ],
    ],
  },
  {
    number: 27,
    what: 'Fixed intervals are longer than a wal_sender_timeout of one second: the server drops the receiver all the time.',
    shown: [slowPut],
  },
  {
    number: 28,
    what: "The manifest's system identifier is larger than 2^53 and loses its last digits in a JSON parser.",
    shown: [
      [
        'e2e/backup/backup-facts.pg.test.ts',
        'the system identifier is shown to its last digit in everything that belongs to a backup',
      ],
    ],
  },
  {
    number: 29,
    what: 'Backups are ordered by the clocks of the machines that took them: one that is slow makes an old backup the newest.',
    shown: [
      ['e2e/backup/backup-facts.pg.test.ts', 'backups of machines with clocks that differ by days stay in order'],
    ],
  },
  {
    number: 30,
    what: 'A standby is promoted in the middle of a backup of it, and the backup is taken for good.',
    shown: [
      ['e2e/recovery/point-in-time.pg.test.ts', 'backs a standby up, and gives up when it is promoted meanwhile'],
      [
        'postgres/backup/base-backup.pg.test.ts',
        'ends where the standby was, and fails when the standby is promoted meanwhile',
      ],
    ],
  },
]

/** True when the source has a test of that name. */
function hasTest(source: string, name: string): boolean {
  const literal = name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
  return new RegExp(`\\btest\\(\\s*(['"\`])${literal}\\1,`).test(source)
}

const sourceOf = (file: string) => readFileSync(new URL(`../${file}`, import.meta.url), 'utf8')

test('all thirty are in the list, each with a test or a reason', () => {
  assert.deepEqual(
    failures.map(({ number }) => number),
    Array.from({ length: 30 }, (_, index) => index + 1),
  )
  for (const { leftOut, number, shown } of failures) {
    assert.ok(shown.length > 0 || leftOut !== undefined, `${number} has neither a test nor a reason`)
  }
})

for (const { number, shown, what } of failures) {
  test(`${number}. ${what}`, () => {
    for (const [file, name] of shown) {
      assert.match(file, /\.(pg|s3)\.test\.ts$/, `${file} starts no server`)
      assert.ok(hasTest(sourceOf(file), name), `test/${file} has no test "${name}"`)
    }
  })
}

test('a test that is not there is missed', () => {
  assert.ok(hasTest(`test('a name', () => {})`, 'a name'))
  assert.ok(!hasTest(`test('a name that is longer', () => {}) // 'a name'`, 'a name'))
})
