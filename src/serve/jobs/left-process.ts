/** A process that an earlier walrx has left: it is waited for, so that no two jobs of a cluster run at a time. */
import { realpathSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import type { Logger } from '../../observe/log.ts'
import { type Clock, sleep } from '../../primitives/clock.ts'

/** How long it may take to clean up before it is asked to end, and then is killed. */
const patienceMs = 60_000
const lookMs = 200

/** What every job has in its environment, and what it starts inherits: the state directory of its walrx. */
const markName = 'SERVED_FROM'

/** The mark in the environment of the jobs of a state directory: by it they are found, however their walrx has ended. */
export function markOf(directory: string): Readonly<Record<string, string>> {
  try {
    return { [markName]: realpathSync(directory) }
  } catch {
    return { [markName]: directory }
  }
}

/**
 * Waits until no process with this mark is left, whatever is known of it: walrx may have been killed before it had written
 * down what it had begun, and the cluster may have another name by now.
 * @throws the signal's reason
 */
export async function waitForMarked(
  mark: Readonly<Record<string, string>>,
  options: { readonly clock: Clock; readonly log: Logger; readonly signal: AbortSignal },
): Promise<void> {
  for (;;) {
    const left = await markedProcesses(mark)
    if (left.length === 0) return
    options.log.info('waiting for jobs of an earlier walrx', { pids: left.map(({ pid }) => pid) })
    await Promise.all(left.map((each) => waitForLeft(each, options)))
  }
}

/** Without /proc there are none: the children of a walrx end with it. */
async function markedProcesses(mark: Readonly<Record<string, string>>) {
  const texts = Object.entries(mark).map(([name, value]) => `\0${name}=${value}\0`)
  const names = (await readdir('/proc').catch(() => [])).filter((name) => /^\d+$/.test(name))
  const looked = names.map(async (name) => {
    const pid = Number(name)
    // Those of other users cannot be read, and are none of ours.
    const environment = `\0${await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')}`
    if (pid === process.pid || !texts.every((text) => environment.includes(text))) return []
    const started = await processStart(pid)
    return started === undefined ? [] : [{ pid, started }]
  })
  return (await Promise.all(looked)).flat()
}

/** When a process began, in ticks since the start of the machine; undefined where that cannot be read. */
export async function processStart(pid: number): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')
  // The second field is a name in parentheses, which may hold spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  // A zombie has ended.
  return fields[0] === 'Z' ? undefined : fields[19]
}

/**
 * Waits until the process has ended. It ends by itself when its parent does; one that takes more than a minute gets SIGTERM,
 * and after another one SIGKILL.
 * @param started as {@link processStart} had it: a process that began at another time is not meant
 * @throws the signal's reason
 */
export async function waitForLeft(
  { pid, started }: { readonly pid: number; readonly started: string | undefined },
  { clock, log, signal }: { readonly clock: Clock; readonly log: Logger; readonly signal: AbortSignal },
): Promise<void> {
  const sinceMs = clock.now()
  let sent: NodeJS.Signals | undefined
  while (await isThere(pid, started)) {
    const waitedMs = clock.now() - sinceMs
    const next = waitedMs > 2 * patienceMs ? 'SIGKILL' : waitedMs > patienceMs ? 'SIGTERM' : undefined
    if (next !== undefined && next !== sent) {
      log.warn('a job of an earlier walrx is still running, and is ended', { pid, signal: next })
      try {
        process.kill(pid, next)
      } catch {
        // It has just ended, or belongs to another user: it is looked at again.
      }
      sent = next
    }
    await sleep(clock, lookMs, signal)
  }
}

async function isThere(pid: number, started: string | undefined): Promise<boolean> {
  // Without /proc nothing shows whether it is the same process: the children of a walrx end with it.
  if (started === undefined) return false
  return (await processStart(pid)) === started
}
