/** What a copy has of walrx's own objects (docs/walg-format.md, 1.7). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { toLsn } from '../../src/postgres/lsn.ts'
import { savedKey } from '../../src/retention/removal/saved-sentinels.ts'
import { orderOf } from '../../src/copy/scope/scoped-backups.ts'
import { intentKey, sentinelKey } from '../../src/walg/backup/backup-names.ts'
import { verificationKey } from '../../src/walg/backup/verification.ts'
import {
  archiveFolders,
  asideFolder,
  deletionKey,
  divergedFolder,
  sentinelOrderKey,
  sentinelSuffix,
  systemKey,
  tailFolder,
  walrxFolder,
} from '../../src/walg/names.ts'
import { gapKey } from '../../src/walg/wal/gap-records.ts'
import { madeSegmentSize } from '../harness/made/made-wal.ts'
import { copy, delta, full, makeArchive, newTarget, second, segment } from './made-archive.ts'

test("a copy has what walrx's objects say of WAL, and nothing of work under way or of checks of the source", async () => {
  const source = makeArchive()
  const gap = { timeline: 1, startLsn: toLsn(BigInt(madeSegmentSize)), endLsn: toLsn(2n * BigInt(madeSegmentSize)) }
  const copied = [gapKey(gap), `${divergedFolder}${segment(3)}.partial.0123.zst`, `${asideFolder}${segment(3)}.zst`]
  const left = [
    deletionKey,
    savedKey(full),
    sentinelOrderKey,
    verificationKey(full),
    intentKey('base_0000000100000000000000F0'),
    `${archiveFolders.probe}/0123`,
  ]
  for (const key of copied) source.seed(key, '{}')
  for (const key of left) source.seed(key, '{"Backups":["base_0000000100000000000000F0"],"names":[]}')
  const storage = newTarget()
  await copy(source, storage)
  const own = [...storage.objects.keys()].filter((key) => key.startsWith(walrxFolder) && !key.startsWith(tailFolder))
  assert.deepEqual(own.sort(), [systemKey, ...copied].sort())
})

test('a copy reads each sentinel once to find out what belongs to it', async () => {
  const source = makeArchive()
  await orderOf(source)
  const read = source.calls.filter(({ key, operation }) => operation === 'get' && key.endsWith(sentinelSuffix))
  assert.deepEqual(read.map(({ key }) => key).sort(), [full, delta, second].map(sentinelKey).sort())
})
