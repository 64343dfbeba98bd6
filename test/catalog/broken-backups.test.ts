/** What lacks a part, or has an empty one, is nowhere called restorable: every reader of the archive agrees with a restore. */
import assert from 'node:assert/strict'
import { cp, mkdtemp, readdir, rm, truncate } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { listLinkedInOrder } from '../../src/catalog/backup-order.ts'
import { readDetailsInOrder, selectBackup } from '../../src/catalog/backups.ts'
import { describeBackup } from '../../src/catalog/backup-description.ts'
import { brokenBackups, linkOf } from '../../src/catalog/chains.ts'
import { checkUse } from '../../src/catalog/first-backup.ts'
import { readOverview } from '../../src/catalog/overview/archive-overview.ts'
import { readArchive } from '../../src/catalog/window/shown-archive.ts'
import { readDocuments } from '../../src/restore/backup/backup-documents.ts'
import { FileStorage } from '../../src/storage/file/file-storage.ts'
import { BackupArchive } from '../../src/walg/backup/backup-archive.ts'
import { archiveFolders } from '../../src/walg/names.ts'
import { WalReader } from '../../src/walg/wal/wal-reader.ts'
import { goldenArchive } from '../harness/made/golden-backups.ts'

const archives = ['walg-local-lz4-deltas', 'walg-remote-zstd', 'walrus-remote-zstd']

/** One kind of loss. */
const losses: Readonly<Record<string, (path: string) => Promise<void>>> = {
  deleted: (path) => rm(path),
  'emptied to 0 bytes': (path) => truncate(path, 0),
}

let root: string
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-broken-'))
})
after(() => rm(root, { recursive: true }))

const signal = new AbortController().signal

/** Names of the backups that each reader calls broken, and those that have a window of their own. */
async function judge(directory: string) {
  const storage = new FileStorage({ folders: archiveFolders, root: directory, fsync: false })
  const archive = new BackupArchive(storage)
  const names = (await archive.listBackups()).map(({ name }) => name)
  const sixteen = 16 * 1024 * 1024
  const shown = await readArchive(new WalReader(storage), {
    ...{ segmentSize: sixteen, withBackups: true, asJson: true, signal },
  })
  const overview = await readOverview({ storage, segmentSize: sixteen, dayCount: 1, nowMs: Date.now(), signal })
  const inFolder = async (name: string) => {
    const described = await describeBackup(archive, { name, lastModifiedMs: 0 }, { withFiles: false, signal })
    return described.chain.problem === undefined ? [] : [name]
  }
  const refused = async (name: string) => {
    const failed = await readDocuments(storage, archive, name, signal).then(
      () => false,
      () => true,
    )
    return failed ? [name] : []
  }
  const sorted = (all: readonly string[][]) => all.flat().sort()
  const latest = names.length === 0 ? undefined : await selectBackup(archive, 'LATEST')
  return {
    restore: sorted(await Promise.all(names.map(refused))),
    readers: {
      'wal-show': shown.broken.map(({ name }) => name).sort(),
      info: sorted(overview.backups.map(({ chain, name }) => (chain.problem === undefined ? [] : [name]))),
      'backup-list': sorted(brokenBackups(await listLinkedInOrder(archive)).map(({ name }) => [name])),
      'backup-list --detail': sorted(
        brokenBackups((await readDetailsInOrder(archive)).map(linkOf)).map(({ name }) => [name]),
      ),
      'backup-show': sorted(await Promise.all(names.map(inFolder))),
    },
    windows: [...shown.windows, ...overview.windows].map(({ backup }) => backup.name),
    names,
    latest,
    use: await checkUse(archive, { name: names[0], isAsked: false }),
  }
}

describe('a golden archive', () => {
  for (const name of archives) {
    test(`${name}: whole, it has no broken backup`, async () => {
      const judged = await judge(new URL(goldenArchive(name)).pathname)
      for (const [reader, broken] of Object.entries(judged.readers)) assert.deepEqual(broken, [], reader)
      assert.ok(judged.windows.length > 0)
      assert.deepEqual(
        judged.latest?.notes.filter((note) => note.includes('cannot be restored')),
        [],
      )
      assert.deepEqual(judged.use, { notes: [] })
    })

    for (const [loss, lose] of Object.entries(losses)) {
      test(`${name}: with any part or table of files ${loss}, a restore and every reader refuse the same`, async () => {
        const sound = new URL(goldenArchive(name)).pathname
        const all = await readdir(join(sound, 'basebackups_005'), { recursive: true })
        const objects = all.filter((each) => /\/(tar_partitions\/[^/]+|files_metadata\.json)$/.test(each))
        assert.ok(objects.length >= 3)
        for (const object of objects) {
          const directory = join(root, 'archive')
          await cp(sound, directory, { recursive: true })
          await lose(join(directory, 'basebackups_005', object))
          const { latest, names, readers, restore, use, windows } = await judge(directory)
          const own = object.split('/', 1)[0] ?? ''
          for (const [reader, broken] of Object.entries(readers)) {
            for (const refused of restore) assert.ok(broken.includes(refused), `${reader} with ${object} ${loss}`)
            assert.ok(broken.includes(own), `${reader} with ${object} ${loss}`)
            assert.deepEqual(broken, readers.info, `${reader} with ${object} ${loss}`)
          }
          for (const window of windows) assert.ok(!readers.info.includes(window), `${window} with ${object} ${loss}`)
          const isLatestBroken = readers.info.includes(latest?.name ?? '')
          const notes = latest?.notes.filter((note) => note.includes('cannot be restored: ')) ?? []
          assert.equal(notes.length, isLatestBroken ? 1 : 0)
          const usable = names.filter((each) => !readers.info.includes(each))
          if (isLatestBroken && usable.length > 0)
            assert.match(notes.join(), new RegExp(`; ${usable.at(-1)} is the newest`))
          assert.equal(use.problem === undefined, usable.length > 0)
          assert.equal(use.notes.length, usable.length > 0 && readers.info.includes(names[0] ?? '') ? 1 : 0)
          await rm(directory, { recursive: true })
        }
      })
    }
  }
})
