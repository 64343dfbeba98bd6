/** The server that the options name, for every command that connects to one. */
import { homedir, userInfo } from 'node:os'
import type { OptionValues } from '../config/options.ts'
import type { Settings } from '../config/load.ts'
import type { Logger } from '../observe/log.ts'
import { PgServer } from '../postgres/connection.ts'
import { parseConninfo } from '../postgres/conninfo.ts'

/** What a command's context knows of the server. */
export interface ServerContext {
  readonly options: Pick<OptionValues<'wal-receive'>, 'conninfo'>
  readonly settings: Pick<Settings<'wal-receive'>, 'pgEnvironment'>
  readonly log: Logger
}

/** Opens nothing yet. @param acceptStandby false passes over standbys where several hosts are named */
export function serverOf({ options, settings, log }: ServerContext, acceptStandby: boolean): PgServer {
  const conninfo = parseConninfo(options.conninfo, {
    env: settings.pgEnvironment,
    osUser: userInfo().username,
    home: homedir(),
  })
  return new PgServer({ conninfo, log, acceptStandby })
}
