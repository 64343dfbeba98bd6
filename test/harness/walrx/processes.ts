/** Processes of the tests: what runs below one, whether it runs, how it is stopped. Linux only (/proc). */
import type { ChildProcess } from 'node:child_process'
import { readdir, readFile } from 'node:fs/promises'

/** State letter and parent of a process, or undefined when there is none. */
async function readStat(pid: number): Promise<{ state: string; parent: number } | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => '')
  // The second field is the name in parentheses, which may itself hold spaces and parentheses.
  const [state, parent] = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return state && parent ? { state, parent: Number(parent) } : undefined
}

/** True while the process exists and is no zombie. */
export async function isRunning(pid: number): Promise<boolean> {
  const stat = await readStat(pid)
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X'
}

/** Ids of all processes below `pid`, at any depth. */
export async function descendants(pid: number): Promise<number[]> {
  const children = new Map<number, number[]>()
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const stat = await readStat(Number(name))
    if (stat) children.set(stat.parent, [...(children.get(stat.parent) ?? []), Number(name)])
  }
  const found: number[] = []
  const below = (parent: number) => {
    for (const child of children.get(parent) ?? []) {
      found.push(child)
      below(child)
    }
  }
  below(pid)
  return found
}

/**
 * Sends a signal to a child, or none, and waits for its end.
 * @returns false when it still runs after `timeoutMs`
 */
export function stopProcess(
  child: ChildProcess,
  signal: NodeJS.Signals | undefined,
  timeoutMs: number,
): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(true)
  return new Promise((resolve) => {
    const settle = (ended: boolean) => {
      clearTimeout(timer)
      child.removeListener('exit', onExit)
      child.unref()
      resolve(ended)
    }
    const onExit = () => settle(true)
    const timer = setTimeout(() => settle(false), timeoutMs)
    child.once('exit', onExit)
    child.ref()
    if (signal) child.kill(signal)
  })
}
