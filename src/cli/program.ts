/** The walrx program: finds the command, loads its settings, runs it, and turns what it throws into an exit status. */
import type { EventEmitter } from 'node:events'
import { type CommandKind, commandTable } from '../config/commands.ts'
import { type Environment, loadSettings, type Settings } from '../config/load.ts'
import { createLog, type RootLogger } from '../observe/log.ts'
import { isAbort, StoppedError, toWalrxError, WalrxError } from '../primitives/errors.ts'
import { nearest } from '../primitives/nearest.ts'
import { packageVersion } from '../primitives/version.ts'
import { type CheckedArguments, checkArguments, type RawArguments } from './arguments/arguments.ts'
import type { Command, CommandContext, StopSignals } from './command.ts'
import { type CommandEntry, commands, type Registry } from './command-loaders.ts'
import { failureStatus } from './exit-status.ts'
import { commandFirst } from './arguments/command-first.ts'
import { foreignCommand } from './arguments/foreign-words.ts'
import { parsePlain } from './arguments/plain-arguments.ts'
import { reportError, type ReportOptions, reportStop } from './report.ts'
import { completeCalls } from './settings/calls/own-calls.ts'
import { signalStatus, watchSignals } from './signals.ts'
import { columnsOf, wantsColours } from './terminal/terminal-rules.ts'

/** A stream that may be a terminal. */
export type OutStream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number }

/** What the program uses of the process. */
export interface Outside {
  /** What was typed after `walrx`. */
  readonly args: readonly string[]
  readonly environment: Environment
  readonly home: string | undefined
  readonly stdin: NodeJS.ReadableStream
  readonly stdout: OutStream
  readonly stderr: OutStream
  /** Emits SIGTERM and SIGINT: the process. */
  readonly signals: EventEmitter
  /** Ends the process at once. */
  readonly exit: (status: number) => void
}

/** What a completion script asks first; see arguments/completion.ts, which is loaded only for that. */
const completionQuestion = '--get-yargs-completions'

/** Exit status of a service that a third signal ended: WAL that it received may not be archived. */
const drainlessStatus = 7

/** Runs the program. Returns the exit status; never throws. */
export async function runProgram(outside: Outside, registry: Registry = commands): Promise<number> {
  if (outside.args[0] === completionQuestion) return await complete(outside, registry)
  const [name, ...args] = commandFirst(outside.args, (word) => Object.hasOwn(registry, word))
  const { environment } = outside
  try {
    if (name === undefined) {
      await showHelp(registry, environment, outside.stderr)
      return 2
    }
    if (/^(--version|-V|version)$/.test(name)) return show(outside.stdout, `walrx ${packageVersion()}\n`)
    if (/^(--help|-h|help)$/.test(name)) return await showHelp(registry, environment, outside.stdout, args[0])
    const loaded = await findCommand(registry, name).load()
    const describes = loaded.findDescribed?.(args)
    const command = describes === undefined ? loaded : { ...loaded, describes }
    const raw = await parse(command, args)
    if (raw.help) return await showHelp(registry, environment, outside.stdout, name)
    return await runCommand(command, checkArguments(command, raw), outside)
  } catch (error) {
    reportError(error, { write: (text) => void outside.stderr.write(text) })
    return failureStatus(name, toWalrxError(error))
  }
}

/** Answers a shell. Whatever is wrong there, the line that somebody types is no place to say it. */
async function complete({ args, stdout }: Outside, registry: Registry): Promise<number> {
  try {
    const { completionLines } = await import('./arguments/completion.ts')
    const lines = await completionLines(registry, args.slice(1))
    return show(stdout, lines.map((line) => `${line}\n`).join(''))
  } catch {
    return 0
  }
}

/** yargs takes a tenth of a second to load, and 12 MB for as long as a command runs: only short ones can bear it. */
async function parse(command: Command, args: readonly string[]): Promise<RawArguments> {
  if (kindOf(command) !== 'short') return parsePlain(command, args)
  const { parseWithYargs } = await import('./arguments/yargs-arguments.ts')
  return parseWithYargs(command, args)
}

async function runCommand(command: Command, { flags, ...typed }: CheckedArguments, outside: Outside) {
  const { environment, home } = outside
  const settings = await loadSettings({ command: command.name, flags, environment, home })
  const log = openLog(settings, outside)
  logNotices(settings, log)
  using signals = watchSignals(outside.signals, (name) => {
    const exitStatus = kindOf(command) === 'service' ? drainlessStatus : signalStatus(name)
    outside.exit(failureStatus(command.name, { exitStatus }))
  })
  const context = contextOf(settings, { flags, ...typed }, log, signals, outside)
  try {
    return await command.run(context)
  } catch (error) {
    const report: ReportOptions = {
      write: (text) => void outside.stderr.write(text),
      log: logFormat(settings, outside) === 'json' ? log : undefined,
      secrets: settings.secrets,
      complete: (hint) => completeCalls(hint, settings),
      debug: settings.values.logLevel === 'debug',
    }
    if (isAbort(error) && signals.received)
      return stopped(command, context, { error, signal: signals.received, report })
    reportError(error, report)
    return failureStatus(command.name, toWalrxError(error))
  } finally {
    log.flush()
  }
}

/** A recovering server stops wal-fetch by the hundred, and says so itself: the quick commands say nothing. */
function stopped(
  command: Command,
  context: CommandContext,
  { error, report, signal }: { error: unknown; report: ReportOptions; signal: NodeJS.Signals },
): number {
  const hint = error instanceof StoppedError ? error.hint : command.whatIsLeft?.(context)
  if (kindOf(command) !== 'quick') reportStop({ command: command.name, signal, hint }, report)
  return failureStatus(command.name, { exitStatus: signalStatus(signal) })
}

function kindOf({ name }: Pick<Command, 'name'>): CommandKind {
  return commandTable[name].kind
}

/** The context passes the streams on without opening them. */
function contextOf(
  settings: Settings,
  { flags, positionals, rest }: CheckedArguments,
  log: RootLogger,
  signals: StopSignals,
  outside: Outside,
): CommandContext {
  return {
    options: settings.values,
    settings,
    positionals,
    rest,
    flags,
    home: outside.home,
    log,
    signals,
    get stdin() {
      return outside.stdin
    },
    get stdout() {
      return outside.stdout
    },
    get stderr() {
      return outside.stderr
    },
  }
}

function openLog(settings: Settings, outside: Outside): RootLogger {
  return createLog({
    level: settings.values.logLevel,
    format: () => logFormat(settings, outside),
    secrets: settings.secrets,
    complete: (hint) => completeCalls(hint, settings),
    colours: () => wantsColours(outside.stderr, outside.environment),
    buffered: commandTable[settings.command].kind === 'service',
  })
}

function logFormat({ command, values }: Settings, outside: Outside): 'json' | 'pretty' {
  if (values.logFormat !== 'auto') return values.logFormat
  const isLong = ['long', 'service'].includes(commandTable[command].kind)
  return isLong && outside.stderr.isTTY !== true ? 'json' : 'pretty'
}

/** Warnings would be repeated for every segment of a recovery, so the quick commands log them at debug only. */
function logNotices({ command, notices }: Settings, log: RootLogger): void {
  for (const { level, message, name, hint } of notices) {
    const say = commandTable[command].kind === 'quick' ? 'debug' : level
    log[say](message, { name, ...(hint !== undefined && { hint }) })
  }
}

async function showHelp(registry: Registry, environment: Environment, to: OutStream, name?: string): Promise<number> {
  const { commandHelp, rootHelp } = await import('./arguments/yargs-arguments.ts')
  const columns = columnsOf(to, environment, 110)
  if (name === undefined) return show(to, await rootHelp(registry, columns))
  const entry = findCommand(registry, name)
  return show(to, await commandHelp(await entry.load(), entry.summary, columns))
}

function show(to: OutStream, text: string): number {
  to.write(text)
  return 0
}

function findCommand(registry: Registry, name: string): CommandEntry {
  const entry = Object.entries(registry).find(([each]) => each === name)?.[1]
  if (entry) return entry
  if (name.startsWith('-')) {
    throw new WalrxError('WALRX_USAGE', `the option ${name} is there, but no command`, {
      hint: 'write walrx COMMAND [options]; walrx --help lists the commands',
    })
  }
  const foreign = foreignCommand(name)
  if (foreign !== undefined) throw new WalrxError('WALRX_USAGE', `there is no command ${name}`, { hint: foreign })
  const suggestion = nearest(name, Object.keys(registry))
  throw new WalrxError('WALRX_USAGE', `there is no command ${name}`, {
    hint: suggestion === undefined ? 'see walrx --help' : `did you mean ${suggestion}?`,
  })
}
