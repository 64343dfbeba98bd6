/**
 * The commands of the table with their files in `commands/`. Each is loaded only when it is asked for: `walrx wal-fetch`
 * must not pay for what `walrx wal-receive` needs.
 */
import { commandTable } from '../config/commands.ts'
import type { CommandName } from '../config/options/option-types.ts'
import type { Command } from './command.ts'

/** One line of `walrx --help`. */
export interface CommandEntry {
  /** What the command does, without a full stop. */
  readonly summary: string
  readonly load: () => Promise<Command>
}

/** Commands by name. */
export type Registry = Partial<Readonly<Record<CommandName, CommandEntry>>>

const loaders: Readonly<Record<CommandName, CommandEntry['load']>> = {
  'wal-receive': async () => (await import('./commands/wal-receive.ts')).walReceive,
  serve: async () => (await import('./commands/serve.ts')).serveCommand,
  'wal-fetch': async () => (await import('./commands/wal-fetch.ts')).walFetch,
  'restore-command': async () => (await import('./commands/restore-command.ts')).restoreCommandCommand,
  'wal-prefetch': async () => (await import('./commands/wal-prefetch.ts')).walPrefetch,
  'wal-push': async () => (await import('./commands/wal-push.ts')).walPush,
  daemon: async () => (await import('./commands/daemon.ts')).daemonCommand,
  'daemon-client': async () => (await import('./commands/daemon-client.ts')).daemonClient,
  'wal-show': async () => (await import('./commands/wal-show.ts')).walShow,
  'wal-verify': async () => (await import('./commands/wal-verify.ts')).walVerify,
  'wal-restore': async () => (await import('./commands/wal-restore.ts')).walRestore,
  'wal-finalize': async () => (await import('./commands/wal-finalize.ts')).walFinalize,
  info: async () => (await import('./commands/info.ts')).info,
  'backup-push': async () => (await import('./commands/backup-push.ts')).backupPush,
  'backup-plan': async () => (await import('./commands/backup-plan.ts')).backupPlan,
  'backup-finish': async () => (await import('./commands/backup-finish.ts')).backupFinish,
  scrub: async () => (await import('./commands/scrub.ts')).scrubCommand,
  'backup-fetch': async () => (await import('./commands/backup-fetch.ts')).backupFetch,
  'backup-verify': async () => (await import('./commands/backup-verify.ts')).backupVerify,
  'backup-list': async () => (await import('./commands/backup-list.ts')).backupList,
  'backup-show': async () => (await import('./commands/backup-show.ts')).backupShow,
  delete: async () => (await import('./commands/delete.ts')).deleteCommand,
  'backup-mark': async () => (await import('./commands/backup-mark.ts')).backupMark,
  copy: async () => (await import('./commands/copy.ts')).copyCommand,
  st: async () => (await import('./commands/st.ts')).stCommand,
  completion: async () => (await import('./commands/completion.ts')).completion,
  check: async () => (await import('./commands/check.ts')).checkCommand,
  status: async () => (await import('./commands/status.ts')).statusCommand,
  config: async () => (await import('./commands/config.ts')).configCommand,
}

/** The commands of walrx. */
export const commands: Registry = Object.fromEntries(
  Object.entries(commandTable).map(([name, { summary }]) => [name, { summary, load: loaders[name as CommandName] }]),
)
