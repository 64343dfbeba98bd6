/** The socket file of a daemon: nobody else's file is removed, and no running daemon's. */
import { lstat, unlink } from 'node:fs/promises'
import { connect, type Server } from 'node:net'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'

/** The longest path of a socket, in bytes: sun_path has room for 108 on Linux and 104 elsewhere, with a zero at its end. */
const pathBytesMax = process.platform === 'linux' ? 107 : 103

/** Only the owner and the group may connect, as far as the umask leaves that to them. */
const maskForOthers = 0o117

/** Refuses a path that no socket can have. Throws WALRX_USAGE. */
export function checkSocketPath(path: string): void {
  const bytes = Buffer.byteLength(path)
  if (bytes <= pathBytesMax) return
  throw new WalrxError(
    'WALRX_USAGE',
    `the path of the socket has ${bytes} bytes, and at most ${pathBytesMax} are possible: ${path}`,
    {
      hint: 'choose a shorter one, for instance below /run',
    },
  )
}

/**
 * Opens the socket, where nothing is yet, or what an ended daemon has left.
 * @throws WALRX_USAGE where another daemon answers, or another kind of file is; WALRX_SYSTEM
 */
export async function listenAt(server: Server, path: string): Promise<void> {
  checkSocketPath(path)
  const stats = await lstat(path).catch(() => undefined)
  if (stats && !stats.isSocket()) {
    throw new WalrxError('WALRX_USAGE', `${path} is there, and is no socket`, {
      hint: 'name another path, or move it away',
    })
  }
  if (stats && (await answers(path))) {
    throw new WalrxError('WALRX_USAGE', `another daemon listens at ${path}`, {
      hint: 'stop it first, or name another path',
    })
  }
  if (stats) await unlink(path)
  await new Promise<void>((resolve, reject) => {
    const before = process.umask(0o777)
    process.umask(before | maskForOthers)
    try {
      server.once('error', (error) => reject(cannotListen(path, error)))
      // The file is made in this call.
      server.listen(path, resolve)
    } finally {
      process.umask(before)
    }
  })
}

function cannotListen(path: string, error: unknown): WalrxError {
  const { hint, message } = toWalrxError(error)
  const text = `no socket can be made at ${path}: ${message}`
  return new WalrxError('WALRX_SYSTEM', text, { cause: error, ...(hint !== undefined && { hint }) })
}

/** True when somebody listens. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
