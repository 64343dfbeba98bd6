/** Only one walrx uses a state directory: two would run every job twice. The system drops the lock however walrx ends. */
import { createServer } from 'node:net'
import { join } from 'node:path'
import { checkSocketPath, listenAt } from '../daemon/socket-file.ts'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'
import { makeStateDirectory } from './jobs/job-state.ts'

/**
 * Makes the directory, and takes it.
 * @returns gives it back
 * @throws WALRX_USAGE where another walrx has it, or its path is too long for a socket; WALRX_SYSTEM where it cannot be made
 */
export async function lockState(directory: string): Promise<() => Promise<void>> {
  try {
    await makeStateDirectory(directory)
  } catch (error) {
    throw new WalrxError('WALRX_SYSTEM', `the state directory cannot be made: ${toWalrxError(error).message}`, {
      cause: error,
      hint: `write state: with a directory that this user may write to, in the place of ${directory}`,
    })
  }
  const socket = join(directory, 'serve.sock')
  try {
    checkSocketPath(socket)
  } catch (error) {
    const { code, message } = toWalrxError(error)
    throw new WalrxError(code, `the state directory cannot be used: ${message}`, {
      cause: error,
      hint: 'name a directory with a shorter path by state:',
    })
  }
  const server = createServer((connection) => connection.destroy())
  try {
    await listenAt(server, socket)
  } catch (error) {
    const { code, message } = toWalrxError(error)
    throw new WalrxError(code, `the state directory ${directory} cannot be used: ${message}`, {
      cause: error,
      hint: 'one walrx serve uses a state directory at a time: give each its own by state:',
    })
  }
  server.unref()
  return () => new Promise((resolve) => server.close(() => resolve()))
}
