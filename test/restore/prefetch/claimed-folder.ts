/** A data directory whose ready folder this process has claimed for a recovery that is none. */
import assert from 'node:assert/strict'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { type Owner, ReadyFolder } from '../../../src/restore/prefetch/ready-folder.ts'
import { findRecovery, runningProcess } from '../../../src/restore/wal/recovery-process.ts'
import { type FakeStartup, startFakeStartup } from '../../harness/postgres/fake-startup.ts'

/** See {@link openClaimedFolder}. */
export interface ClaimedFolder {
  /** The test removes it. */
  readonly dataDir: string
  readonly pgWal: string
  /** The recovery; the test ends it. */
  readonly startup: FakeStartup
  readonly folder: ReadyFolder
  readonly owner: Owner
}

/** Makes one. */
export async function openClaimedFolder(): Promise<ClaimedFolder> {
  const dataDir = await mkdtemp(join(tmpdir(), 'walrx-prefetch-'))
  const pgWal = join(dataDir, 'pg_wal')
  await mkdir(pgWal)
  const startup = await startFakeStartup()
  const folder = ReadyFolder.beside(join(pgWal, 'RECOVERYXLOG'), startup.pid)
  const recovery = findRecovery(startup.pid)
  const self = runningProcess(process.pid)
  assert.ok(recovery && self)
  const owner = await folder.claim({ recovery, prefetcher: { pid: self.pid, startTime: self.startTime } })
  assert.ok(owner)
  return { dataDir, pgWal, startup, folder, owner }
}
