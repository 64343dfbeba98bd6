/** `walrx daemon-client`: one request to a daemon, for an archive_command or a restore_command. */
import { askDaemon } from '../../daemon/daemon-client.ts'
import { encodeArguments, requestFrame } from '../../daemon/frames.ts'
import { WalrxError } from '../../primitives/errors.ts'
import type { Command } from '../command.ts'

/** The archive positively lacks the file: the status of wal-fetch. */
const absentStatus = 74

/** See the file's header. */
export const daemonClient: Command<'daemon-client', 'socket' | 'request' | 'name', 'dest'> = {
  name: 'daemon-client',
  positionals: [
    { name: 'socket', help: "the daemon's socket: walrx's, WAL-G's or WAL-RUS's" },
    { name: 'request', help: 'wal-push or wal-fetch' },
    { name: 'name', help: 'name of the WAL file: %f of an archive_command or a restore_command' },
  ],
  optionals: [{ name: 'dest', help: 'where it goes, for wal-fetch: %p of a restore_command' }],
  examples: [
    {
      call: 'walrx daemon-client /tmp/walrx.sock wal-push 000000010000000000000001',
      means: "what archive_command = 'walrx daemon-client /tmp/walrx.sock wal-push %f' runs",
    },
    {
      call: 'walrx daemon-client /tmp/walrx.sock wal-fetch 000000010000000000000001 pg_wal/RECOVERYXLOG',
      means: 'the same for a restore_command',
    },
  ],
  async run({ options, positionals, signals }) {
    const { name, socket } = positionals
    const reply = await askDaemon({
      socketPath: socket,
      frame: frameOf(positionals),
      connectTimeoutMs: options.clientConnectionTimeoutMs,
      timeoutMs: options.clientTimeoutMs,
      signal: signals.drain,
    })
    if (reply === 'O') return 0
    if (reply === 'N' && positionals.request === 'wal-fetch') return absentStatus
    throw new WalrxError('WALRX_DAEMON_FAILED', `the daemon at ${socket} could not ${positionals.request} ${name}`, {
      hint: 'its log says why',
    })
  },
}

function frameOf({ dest, name, request }: Readonly<Record<'request' | 'name', string> & { dest?: string }>): Buffer {
  if (request === 'wal-push') {
    if (dest === undefined) return requestFrame('F', Buffer.from(name))
    throw new WalrxError('WALRX_USAGE', `wal-push takes no argument "${dest}"`, {
      hint: "write archive_command = 'walrx daemon-client SOCKET wal-push %f'",
    })
  }
  if (request !== 'wal-fetch') {
    throw new WalrxError('WALRX_USAGE', `a daemon has no request "${request}"`, { hint: 'write wal-push or wal-fetch' })
  }
  if (dest !== undefined) return requestFrame('f', encodeArguments([name, dest]))
  throw new WalrxError('WALRX_USAGE', 'DEST is missing', {
    hint: "write restore_command = 'walrx daemon-client SOCKET wal-fetch %f %p'",
  })
}
