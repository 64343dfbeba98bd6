/**
 * How wal-fetch and the prefetcher talk: a unix socket in the ready folder, one line each way. wal-fetch says which
 * segment the server wants, the prefetcher answers `ready` once it lies in the folder, or `no` when wal-fetch had better
 * get it itself. A socket rather than files, because it tells at once when the other side is gone.
 */
import { connect, createServer, type Server, type Socket } from 'node:net'
import { isSegmentName } from '../../postgres/wal/wal-file.ts'

/** Longest wait for an answer. The prefetcher says `no` by itself when a download stalls; this is for one that hangs. */
const answerTimeoutMs = 60_000

/** Listens for what the server wants. */
export interface PrefetchChannel {
  /** Stops listening and drops whoever waits; harmless twice. */
  close(): void
}

/**
 * Opens the prefetcher's side.
 * @param wanted called with each segment that a wal-fetch asks for; resolves with true once it is ready, false when it
 * won't be
 * @throws the system's error when the socket can't be made
 */
export async function listenForWanted(
  path: string,
  wanted: (name: string) => Promise<boolean>,
): Promise<PrefetchChannel> {
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    // The other side may be gone before it has its answer.
    socket.on('error', () => socket.destroy())
    readLine(socket, (name) => {
      if (!isSegmentName(name)) return void socket.destroy()
      wanted(name).then(
        (isReady) => socket.end(isReady ? 'ready\n' : 'no\n'),
        () => socket.destroy(),
      )
    })
  })
  await listen(server, path)
  return {
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
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
 * @returns true once it lies in the folder; false when it won't, when nobody listens or answers, and when `signal` aborts
 */
export function askForSegment(path: string, name: string, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
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
    socket.on('connect', () => socket.write(`${name}\n`))
    readLine(socket, (answer) => settle(answer === 'ready'))
    if (signal.aborted) onAbort()
  })
}

/** Lines of the protocol are shorter; a longer one is not from us. */
const lineBytesMax = 100

/** Calls `take` with the first line that comes; drops the connection of one who sends none. */
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
