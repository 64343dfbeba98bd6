#!/usr/bin/env node
/**
 * The start and the end of the process. Everything else is loaded after the check of Node's version, so nothing here may
 * use what an old Node doesn't know: no named imports of new functions, and no static import of a file that does.
 */
import fs from 'node:fs'
import module from 'node:module'
import os from 'node:os'
import path from 'node:path'
import process from 'node:process'
import v8 from 'node:v8'
import { failureStatus } from './cli/exit-status.ts'
import { reportError } from './cli/report.ts'
import { commandRow } from './config/commands.ts'
import { toWalrxError, WalrxError } from './primitives/errors.ts'

const command = process.argv[2]
const home = homeDirectory()
let isStdoutOpen = false

/** Ends the process with an error outside of the program, with the exit status that the command has for it. */
function fail(error: unknown): never {
  const debug = process.env['WALRX_LOG_LEVEL'] === 'debug'
  reportError(error, { write: (text) => void process.stderr.write(text), debug })
  end(failureStatus(command, toWalrxError(error)))
}

/** Requests of Node's that a thread carries out, as process.getActiveResourcesInfo() calls them: files and names of hosts. */
const threadRequests: readonly string[] = [
  ...['FSReqCallback', 'FSReqPromise', 'FileHandleCloseReq', 'GetAddrInfoReqWrap', 'GetNameInfoReqWrap'],
]

function isThreadBusy(): boolean {
  return process.getActiveResourcesInfo().some((name) => threadRequests.includes(name))
}

/** How long threads that are busy at the end may go on. */
const threadsMaxMs = 1_000

/**
 * Ends the process. Its exit waits for threads in system calls, which no signal ends: a network file system that does not
 * answer, a name server, a FIFO in the place of a file. A program that takes the place of this one ends them.
 */
function end(status: number): never {
  if (isThreadBusy()) {
    try {
      process.execve?.('/bin/sh', ['sh', '-c', `exit ${status}`], {})
    } catch {
      // There is no such program, or no such call: it ends when the threads do.
    }
  }
  process.exit(status)
}

/** PostgreSQL judges some commands by their exit status, also where a signal ends them before the program listens. */
function onEarlySignal(name: NodeJS.Signals): void {
  end(failureStatus(command, { exitStatus: 128 + os.constants.signals[name] }))
}

function listenEarly(): void {
  // From here on to the end, also where nothing is there yet to read again.
  if (command === 'serve') process.on('SIGHUP', () => {})
  if (commandRow(command)?.exitStatusFor !== undefined) process.on('SIGTERM', onEarlySignal).on('SIGINT', onEarlySignal)
}

/** How long a job of `walrx serve` may clean up after its parent has ended. */
const orphanMs = 45_000

/**
 * A job of `walrx serve` has a channel to its parent, which breaks when the parent ends, however that is: then the job stops
 * as at a signal, so that the next walrx does not find it at work.
 */
function endWithParent(): void {
  if (!process.channel) return
  process.on('disconnect', () => {
    setTimeout(() => process.kill(process.pid, 'SIGKILL'), orphanMs).unref()
    process.kill(process.pid, 'SIGTERM')
  })
  // The channel alone is no reason to live.
  process.channel.unref()
}

/** zstd came to Node with 22.15 and 23.8. */
function isTooOld(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major < 22 || (major === 22 && minor < 15) || (major === 23 && minor < 8)
}

/**
 * V8's compile cache, about a third off the start. Not in the temporary directory, where Node puts it by default:
 * any user of the machine could put code there, which the server's user would run. NODE_COMPILE_CACHE names another directory, and
 * NODE_DISABLE_COMPILE_CACHE turns it off.
 */
function enableCompileCache(): void {
  const base = process.env['XDG_CACHE_HOME'] || home
  // Node would also create a home that is not there, and where that is impossible, as below /proc, try for ever.
  if (process.env['NODE_COMPILE_CACHE'] || !base || !fs.existsSync(base)) return
  module.enableCompileCache(base === home ? path.join(base, '.cache', 'walrx') : path.join(base, 'walrx'))
}

/**
 * WAL never lives in the heap, so the little that does needs no young generation of 48 MB. It has to be said before it
 * has grown. Measured at full rate with the default pool: 145 MB resident; 150 when said after the program is loaded.
 */
function keepHeapSmall(): void {
  v8.setFlagsFromString('--max-semi-space-size=1')
  v8.setFlagsFromString('--semi-space-growth-factor=1')
}

/**
 * What reads thousands of documents makes garbage that outlives the small young generation. V8 would let the heap grow
 * to four times what is alive. Measured with 10,000 backups in a bucket: 146 MB resident instead of 250, in the same time.
 */
function collectEarly(): void {
  v8.setFlagsFromString('--heap-growing-percent=50')
}

/** Standard output; when its reader goes away, as in `walrx wal-show | head`, that is the end and no error. */
function openStdout(): typeof process.stdout {
  isStdoutOpen = true
  if (process.stdout.listenerCount('error') === 0) {
    process.stdout.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0)
      fail(new WalrxError('WALRX_SYSTEM', `standard output cannot be written: ${error.message}`, { cause: error }))
    })
  }
  return process.stdout
}

/** Standard error; without a reader, or on a full disk, the command goes on, and its exit status says how it ended. */
function openStderr(): typeof process.stderr {
  if (process.stderr.listenerCount('error') === 0) process.stderr.on('error', () => {})
  return process.stderr
}

/** Undefined for a user without a home, as in a container with a number for a user. */
function homeDirectory(): string | undefined {
  try {
    return os.homedir()
  } catch {
    // The AWS SDK fails without one, also where the credentials are in the environment. OpenShift sets the same.
    process.env['HOME'] = '/'
    return undefined
  }
}

if (isTooOld(process.versions.node)) {
  const version = `Node.js ${process.versions.node}`
  fail(new WalrxError('WALRX_USAGE', `${version} is too old: install 22.15 or later (of the 23 line, 23.8 or later)`))
}
process.on('uncaughtException', fail)
// Should nothing be left to wait for before the program has said how it ends, Node would end with 13.
process.exitCode = failureStatus(command, { exitStatus: 1 })
listenEarly()
endWithParent()
enableCompileCache()
const row = commandRow(command)
if (row?.keepsHeapSmall) keepHeapSmall()
if (row?.keepsHeapSmall && row.kind === 'short') collectEarly()
const { runProgram } = await import('./cli/program.ts')
const status = await runProgram({
  args: process.argv.slice(2),
  environment: process.env,
  home,
  // Opened when they are used: wal-fetch mostly writes nothing.
  get stdin() {
    return process.stdin
  },
  get stdout() {
    return openStdout()
  },
  get stderr() {
    return openStderr()
  },
  get signals() {
    process.off('SIGTERM', onEarlySignal).off('SIGINT', onEarlySignal)
    return process
  },
  exit: end,
})
// A failed write is reported one turn later.
if (isStdoutOpen) await new Promise((resolve) => setImmediate(resolve))
for (const startMs = Date.now(); isThreadBusy() && Date.now() - startMs < threadsMaxMs;) {
  await new Promise((resolve) => setTimeout(resolve, 10))
}
end(status)
