/** Our client against a {@link ScriptedServer}. */
import { parseConninfo } from '../../../src/postgres/connect/conninfo.ts'
import { PgServer, type PgServerOptions } from '../../../src/postgres/connect/connection.ts'
import type { PgSession } from '../../../src/postgres/connect/pg-session.ts'
import { type ScriptedConnection, ScriptedServer } from './scripted-server.ts'

/** What a server says on one connection; they are numbered from 1. */
export type Script = (connection: ScriptedConnection, number: number) => Promise<void>

/** Connects to a server that plays `script`; the connection string is extended by `more`. */
export async function connectTo(
  script: Script,
  use: (session: PgSession, server: ScriptedServer) => Promise<void> = async () => {},
  more: string = '',
  options: Partial<PgServerOptions> = {},
): Promise<void> {
  await using server = await ScriptedServer.listen(script)
  const conninfo = parseConninfo(`${server.conninfo()} ${more}`, { env: {} })
  const session = await new PgServer({ conninfo, ...options }).connect()
  try {
    await use(session, server)
  } finally {
    await session.close()
  }
}
