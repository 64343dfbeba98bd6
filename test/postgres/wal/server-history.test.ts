import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import type { Timeline } from '../../../src/postgres/lsn.ts'
import type { HistoryFile } from '../../../src/postgres/protocol/session.ts'
import { type HistorySession, readKnownHistory, readServerHistory } from '../../../src/postgres/wal/server-history.ts'
import { historyName } from '../../../src/postgres/wal/wal-file.ts'

/** A server with these history files, and what it was asked for. */
function serverWith(files: Readonly<Record<Timeline, string>>): { session: HistorySession; asked: Timeline[] } {
  const asked: Timeline[] = []
  const timelineHistory = (timeline: Timeline): Promise<HistoryFile | undefined> => {
    asked.push(timeline)
    const text = files[timeline]
    if (text === undefined) return Promise.resolve(undefined)
    return Promise.resolve({ timeline, fileName: historyName(timeline), content: Buffer.from(text) })
  }
  return { session: { host: 'fake:5432', timelineHistory }, asked }
}

for (const [name, read] of [
  ['readServerHistory', readServerHistory],
  ['readKnownHistory', readKnownHistory],
] as const) {
  describe(name, () => {
    test('of the first timeline asks nobody', async () => {
      const { asked, session } = serverWith({})
      const { chain, file } = await read(session, 1)
      assert.deepEqual([chain.links.length, chain.newest.timeline, file, asked], [1, 1, undefined, []])
    })

    test('has the ancestors of the file, and the file as it was sent', async () => {
      const text = '1\t0/3000000\tbefore\n2\t0/5000000\tbefore\n'
      const { asked, session } = serverWith({ 3: text })
      const { chain, file } = await read(session, 3)
      assert.deepEqual(
        chain.links.map(({ end, timeline }) => [timeline, end]),
        [
          [1, 0x3000000n],
          [2, 0x5000000n],
          [3, undefined],
        ],
      )
      assert.deepEqual([file?.content.toString(), asked], [text, [3]])
    })

    test('refuses a file that is none', async () => {
      await assert.rejects(read(serverWith({ 2: 'no history' }).session, 2), { code: 'WALRX_OBJECT_DAMAGED' })
    })
  })
}

test('a server without the history file of its own timeline is refused, or has no ancestors', async () => {
  const { session } = serverWith({ 2: '1\t0/3000000\tbefore\n' })
  await assert.rejects(readServerHistory(session, 3), {
    code: 'WALRX_SERVER_ERROR',
    message: 'fake:5432 has no history file of its own timeline 3',
  })
  const { chain, file } = await readKnownHistory(session, 3)
  assert.deepEqual([chain.links.map(({ timeline }) => timeline), file], [[3], undefined])
})
