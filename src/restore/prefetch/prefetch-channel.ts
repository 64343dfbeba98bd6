/**
 * The protocol between wal-fetch and the prefetcher: a Unix socket, one line each way. wal-fetch sends the secret of the
 * ready folder and the name of the segment that the server wants. The prefetcher answers `ready` once the segment is in
 * the folder, or `no` when wal-fetch must download it itself. A socket, unlike a file, shows at once when the other side
 * has ended.
 *
 * The socket's name is abstract (unix(7)): it is no file, so no program that copies or removes a data directory
 * (pg_rewind, a standby's rsync) meets a socket there, and nothing of it stays when the prefetcher is killed. Every user
 * of the machine can connect to such a name, so the secret comes first. Both sides descend from the server's startup
 * process, and so share its network namespace, by which these names are kept.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { isSegmentName } from '../../postgres/wal/wal-file.ts'
import type { ChannelAddress } from './channel-address.ts'

/** Longest wait for an answer. A prefetcher answers `no` when a download stalls; this limit is for one that hangs. */
const answerTimeoutMs = 60_000

/** Listens for the segments that the server wants. */
export interface PrefetchChannel {
  /** Stops listening and closes all connections. May be called twice. */
  close(): void
}

/**
 * Opens the prefetcher's side.
 * @param wanted called with each segment that a wal-fetch asks for; resolves with true once it is ready, with false
 * when it won't be
 * @throws the system's error when the socket can't be made
 */
export async function listenForWanted(
  address: ChannelAddress,
  wanted: (name: string) => Promise<boolean>,
): Promise<PrefetchChannel> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    // The other side may end before it gets its answer.
    socket.on('error', () => socket.destroy())
    readLine(socket, (line) => {
      const [secret, name = ''] = line.split(' ')
      if (secret !== address.secret || !isSegmentName(name)) return void socket.destroy()
      wanted(name).then(
        (isReady) => socket.end(isReady ? 'ready\n' : 'no\n'),
        () => socket.destroy(),
      )
    })
  })
  await listen(server, socketPath(address))
  return {
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** As Node wants it: abstract by its first byte. */
function socketPath({ name }: ChannelAddress): string {
  return `\0${name}`
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => {
      server.off('error', reject)
      server.on('error', () => {})
      resolve()
    })
  })
}

/**
 * Asks the prefetcher for a segment.
 * @returns true once it is in the folder; false when it won't be, when no prefetcher answers, and when `signal` aborts
 */
export function askForSegment(address: ChannelAddress, name: string, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath(address))
    const settle = (isReady: boolean) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      socket.destroy()
      resolve(isReady)
    }
    const onAbort = () => settle(false)
    const timer = setTimeout(onAbort, answerTimeoutMs)
    signal.addEventListener('abort', onAbort, { once: true })
    socket.on('error', onAbort)
    socket.on('close', onAbort)
    socket.on('connect', () => socket.write(`${address.secret} ${name}\n`))
    readLine(socket, (answer) => settle(answer === 'ready'))
    if (signal.aborted) onAbort()
  })
}

/** Lines of the protocol are shorter; a longer one is not from walrx. */
const lineBytesMax = 100

/** Calls `take` with the first line; closes the connection when it is too long. */
function readLine(socket: Socket, take: (line: string) => void): void {
  let text = ''
  const onData = (chunk: Buffer) => {
    text += chunk.toString('latin1')
    const end = text.indexOf('\n')
    if (end === -1) {
      if (text.length > lineBytesMax) socket.destroy()
      return
    }
    socket.off('data', onData)
    take(text.slice(0, end))
  }
  socket.on('data', onData)
}
