/** Only one walrx uses a state directory: two would run every job twice. The system drops the lock however walrx ends. */
import { randomBytes } from 'node:crypto'
import { readdir, rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { checkSocketPath } from '../daemon/socket-file.ts'
import { toWalrxError, WalrxError } from '../primitives/errors.ts'
import { makeStateDirectory } from './jobs/job-state.ts'

/** Of several that start at once, each gives way so often; one that has the lock never does. */
const attemptsMax = 5
const pauseMs = 100

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
  try {
    checkSocketPath(join(directory, claimOf('0'.repeat(2 * idBytes))))
  } catch (error) {
    const { code, message } = toWalrxError(error)
    throw new WalrxError(code, `the state directory cannot be used: ${message}`, {
      cause: error,
      hint: 'name a directory with a shorter path by state:',
    })
  }
  try {
    for (let attempt = 1; ; attempt++) {
      const claim = await Claim.make(directory)
      const other = await claim.other()
      if (other === undefined) return () => claim.drop()
      await claim.drop()
      if (attempt < attemptsMax) await wait(pauseMs * (1 + Math.random()))
      else throw new WalrxError('WALRX_USAGE', `another walrx serve listens at ${join(directory, other)}`)
    }
  } catch (error) {
    const { code, message } = toWalrxError(error)
    throw new WalrxError(code, `the state directory ${directory} cannot be used: ${message}`, {
      cause: error,
      hint: 'one walrx serve uses a state directory at a time: give each its own by state:',
    })
  }
}

/** Random bytes in the name of a socket. */
const idBytes = 8

/** Names of sockets that answer as long as their process lives. */
const claimName = /^serve-[0-9a-f]{16}\.sock$/

function claimOf(id: string): string {
  return `serve-${id}.sock`
}

/**
 * A socket in the directory, under a name that nobody else ever has. It answers before it can be seen, so one that does not
 * is of a process that has ended, and may be removed at any time by anyone. Who sees no other after having been seen has the
 * directory: of two, the one that looks last sees the other.
 */
class Claim {
  readonly #directory: string
  readonly #server: Server
  readonly #name: string

  private constructor(directory: string, server: Server, name: string) {
    this.#directory = directory
    this.#server = server
    this.#name = name
  }

  static async make(directory: string): Promise<Claim> {
    const id = randomBytes(idBytes).toString('hex')
    const claim = new Claim(
      directory,
      createServer((socket) => socket.destroy()),
      claimOf(id),
    )
    const hidden = join(directory, `new-${id}.sock`)
    await new Promise<void>((resolve, reject) => {
      claim.#server.once('error', reject)
      claim.#server.listen(hidden, resolve)
    })
    claim.#server.unref()
    try {
      await rename(hidden, join(directory, claim.#name))
    } catch (error) {
      await claim.drop()
      throw error
    }
    return claim
  }

  /** Name of the socket of another walrx; undefined where there is none. */
  async other(): Promise<string | undefined> {
    for (const name of await readdir(this.#directory)) {
      if (name === this.#name || !claimName.test(name)) continue
      const path = join(this.#directory, name)
      if (await isAlive(path)) return name
      await rm(path, { force: true })
    }
    return undefined
  }

  async drop(): Promise<void> {
    await rm(join(this.#directory, this.#name), { force: true })
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }
}

/** False only where nobody can be listening: one that has no place for another connection is alive. */
function isAlive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code !== 'ECONNREFUSED' && code !== 'ENOENT'))
  })
}
