/**
 * Timeouts that the server sets for all sessions. Public reports of tools that they hit: pgbackrest #2789, barman #751.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer } from '../../../src/postgres/connect/connection.ts'
import { until } from '../../harness/time/until.ts'
import { majorsFor } from '../../harness/extent.ts'
import { startPostgres, type TestPostgres } from '../../harness/postgres/postgres.ts'

const names = ['idle_session_timeout', 'statement_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout']

const serverAt = (text: string) => new PgServer({ conninfo: parseConninfo(text, { env: {} }) })

/** Waits until the server has ended an ordinary session that is idle. */
async function untilIdleSessionEnds(server: TestPostgres): Promise<void> {
  const client = await server.client()
  let hasEnded = false
  client.on('end', () => (hasEnded = true))
  await until('an idle session to be ended', () => hasEnded)
}

for (const major of majorsFor([14, 17])) {
  test(`PostgreSQL ${major}: no timeout of the server, the database or the role is on in walrx's sessions`, async () => {
    const all = [...names, ...(major >= 17 ? ['transaction_timeout'] : [])]
    const settings = Object.fromEntries(all.map((name) => [name, '700ms']))
    await using server = await startPostgres({ major, settings })
    await server.sql(
      `alter role postgres set statement_timeout = '600ms'; alter database postgres set lock_timeout = '600ms'`,
    )
    const pgServer = serverAt(server.conninfo())
    const session = await pgServer.connect()
    const opening = await pgServer.trySql(session)
    assert.ok(opening.sql)
    await untilIdleSessionEnds(server)
    assert.equal((await session.identifySystem()).systemId, server.systemId, 'the walsender was idle for longer')
    for (const name of names) assert.equal(await session.show(name), '0', name)
    const values: string[] = []
    const query = `select name || '=' || setting from pg_settings where name in (${all.map((name) => `'${name}'`).join()})`
    for await (const [value] of opening.sql.stream(query, new AbortController().signal)) values.push(value ?? '')
    // The stream sets its own for its own statement.
    const others = values.filter((value) => !value.startsWith('statement_timeout='))
    assert.deepEqual(
      others.sort(),
      all
        .filter((name) => name !== 'statement_timeout')
        .map((name) => `${name}=0`)
        .sort(),
    )
    await opening.sql.close()
    await session.close()
  })
}

test('PGOPTIONS may set one of them all the same', async () => {
  await using server = await startPostgres({ major: 17 })
  const pgServer = serverAt(`${server.conninfo()} options='-c statement_timeout=7s'`)
  const session = await pgServer.connect()
  assert.deepEqual([await session.show('statement_timeout'), await session.show('lock_timeout')], ['7s', '0'])
  await session.close()
})
