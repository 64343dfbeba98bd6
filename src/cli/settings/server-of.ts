/** The server that the options name, for every command that connects to one. */
import { readFileSync, statSync } from 'node:fs'
import { homedir, userInfo } from 'node:os'
import type { OptionValues } from '../../config/options/options.ts'
import type { Settings } from '../../config/load.ts'
import type { Logger } from '../../observe/log.ts'
import { PgServer } from '../../postgres/connect/connection.ts'
import { type Conninfo, parseConninfo } from '../../postgres/connect/conninfo.ts'
import { WalrxError } from '../../primitives/errors.ts'

/** What a command's context knows of the server. */
export interface ServerContext {
  readonly options: Pick<OptionValues<'wal-receive'>, 'conninfo'>
  readonly settings: Pick<Settings<'wal-receive'>, 'pgEnvironment' | 'pgFlags'>
  readonly log: Logger
}

/** Opens nothing yet. @param acceptStandby false passes over standbys where several hosts are named */
export function serverOf(context: ServerContext, acceptStandby: boolean): PgServer {
  return new PgServer({ conninfo: conninfoOf(context), log: context.log, acceptStandby })
}

/** The connection string and the PG* settings, parsed. Throws WALRX_USAGE or WALRX_OPTION_UNSUPPORTED. */
export function conninfoOf({ options, settings }: Omit<ServerContext, 'log'>): Conninfo {
  return parseConninfo(options.conninfo, {
    env: settings.pgEnvironment,
    flags: settings.pgFlags,
    readFile: readIfThere,
    osUser: ifKnown(() => userInfo().username),
    home: ifKnown(homedir),
  })
}

/** Undefined for a user id that the system has no entry for, as containers give them. */
function ifKnown(lookUp: () => string): string | undefined {
  try {
    return lookUp()
  } catch {
    return undefined
  }
}

/** The text of a service file. */
function readIfThere(path: string): string | undefined {
  try {
    // A FIFO would be waited for.
    const stats = statSync(path)
    if (stats.isFile() || stats.isDirectory()) return readFileSync(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined
    throw new WalrxError('WALRX_USAGE', `service file "${path}" cannot be read: ${code}`, { cause: error })
  }
  throw new WalrxError('WALRX_USAGE', `service file "${path}" is no regular file`)
}
