/**
 * WAL that a receiver has encrypted is fetched by WAL-G and WAL-RUS, and WAL that they have encrypted by walrx, for every way
 * to give a key and every codec. Programs that know only the method and the codec decode every object that walrx has written.
 * Runs where WALG_BIN and WALRUS_BIN name their programs, and with the reference tools that there are.
 */
import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { before, describe, test } from 'node:test'
import { type EncryptionRow, encryptionRows } from '../../harness/crypto/encryption-rows.ts'
import { type Peer, peers, peerSkip, runPeer } from '../../harness/crypto/peers.ts'
import { decodeByReference, referenceSkip } from '../../harness/crypto/reference-tools.ts'
import { archivedKeys } from '../../harness/store/archive-check.ts'
import { runWalrx } from '../../harness/walrx/walrx-process.ts'
import { isExpected, makeReceiverWorld, objectOf, type ReceiverWorld, type RowArchive } from './receiver-world.ts'

const isAnyoneThere = encryptionRows.some(
  (row) => referenceSkip(row) === false || peers.some((peer) => peerSkip(peer, row) === false),
)
const skip = !isAnyoneThere && 'neither WAL-G nor WAL-RUS nor a reference tool is there'

let world: ReceiverWorld

function archiveOf(row: EncryptionRow): RowArchive {
  const archive = world.archives.get(row)
  assert.ok(archive)
  return archive
}

/** An empty data directory: WAL-G and WAL-RUS keep notes there. */
async function dataDirectory(name: string): Promise<string> {
  const path = join(world.root, name)
  await mkdir(join(path, 'pg_wal/archive_status'), { recursive: true })
  return path
}

async function fetchByPeer(peer: Peer, archive: RowArchive): Promise<void> {
  const data = await dataDirectory(`${peer.name}-${basename(archive.root)}`)
  const env = { ...archive.env, HOME: data, PGDATA: data, WALG_DOWNLOAD_CONCURRENCY: '1' }
  for (const file of world.files) {
    const target = join(data, file.name)
    await runPeer(peer, ['wal-fetch', file.name, target], env)
    assert.ok(isExpected(await readFile(target), file), file.name)
  }
}

async function fetchFromPeer(peer: Peer, { env, root }: RowArchive): Promise<void> {
  const data = await dataDirectory(`by-${peer.name}-${basename(root)}`)
  const archive = join(data, 'archive')
  await mkdir(archive)
  const settings = { ...env, WALG_FILE_PREFIX: archive }
  for (const { content, name } of world.files) {
    const path = join(data, 'pg_wal', name)
    const whole = name.endsWith('.partial')
      ? Buffer.concat([content, Buffer.alloc(1024 ** 2 - content.length)])
      : content
    await writeFile(path, whole)
    await runPeer(peer, ['wal-push', path], { ...settings, HOME: data, PGDATA: data })
  }
  const shown = await runWalrx(['wal-show', '--json'], { env: settings })
  assert.equal(shown.status, 0, shown.stderr)
  assert.match(shown.stdout, new RegExp(`"end_segment":\\s*"${world.files[1]?.name}"`))
  for (const file of world.files) {
    const target = join(data, `fetched-${file.name}`)
    const fetched = await runWalrx(['wal-fetch', file.name, target], { env: settings })
    assert.equal(fetched.status, 0, fetched.stderr)
    assert.ok(isExpected(await readFile(target), file), file.name)
  }
}

async function decodeAll(archive: RowArchive): Promise<void> {
  const { root, row } = archive
  const objects = world.files.map(({ name }) => objectOf(archive, name))
  const contents = await decodeByReference(row, objects)
  for (const [index, file] of world.files.entries()) assert.ok(isExpected(contents[index] ?? Buffer.alloc(0), file))

  // Whatever else lies there in these folders is encrypted too.
  const others = archivedKeys(root).filter((key) => /^(wal_005|walrx_005\/(tail|partial))\//.test(key))
  assert.ok(
    others.some((key) => key.startsWith('walrx_005/tail/')),
    others.join(' '),
  )
  const decoded = await decodeByReference(
    row,
    others.map((key) => join(root, key)),
  )
  const chunks = decoded.filter((_, index) => others[index]?.startsWith('walrx_005/tail/'))
  // Pages of WAL of PostgreSQL 17 begin with 0xD116, and what is no whole page is a later chunk of one.
  assert.ok(chunks.some((chunk) => chunk.readUInt16LE(0) === 0xd116))
}

describe('encrypted WAL', { skip, timeout: 300_000 }, () => {
  before(async () => {
    world = await makeReceiverWorld(encryptionRows)
  })

  for (const row of encryptionRows) {
    describe(row.name, () => {
      for (const peer of peers) {
        test(`${peer.name} fetches what walrx has encrypted`, { skip: peerSkip(peer, row) }, () =>
          fetchByPeer(peer, archiveOf(row)),
        )
        test(`walrx fetches what ${peer.name} has encrypted`, { skip: peerSkip(peer, row) }, () =>
          fetchFromPeer(peer, archiveOf(row)),
        )
      }
      test('every object is one stream to the reference tools', { skip: referenceSkip(row) }, () =>
        decodeAll(archiveOf(row)),
      )
    })
  }
})
