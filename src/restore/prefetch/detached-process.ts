/** Starts a process that outlives this one and inherits no descriptors from it. Linux only: reads /proc. */
import { spawn, type StdioNull } from 'node:child_process'
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs'

/** O_CLOEXEC as /proc/PID/fdinfo shows it, octal (proc_pid_fdinfo(5)). */
const closeOnExec = 0o2000000

/**
 * Starts a program in a session of its own, with this process's working directory and environment. Every descriptor
 * that it would inherit, standard input and output included, is /dev/null instead. A server's restore_command inherits
 * the server's open files, such as the pipe to its logging collector, which ends only after the last process has closed
 * that pipe.
 * @returns its process id
 * @throws the system's error when it can't be started
 */
export async function startDetached(program: string, args: readonly string[]): Promise<number> {
  const nothing = openSync('/dev/null', 'r+')
  try {
    const leaking = inheritableDescriptors()
    const stdio: (StdioNull | number)[] = Array.from({ length: 1 + Math.max(2, ...leaking) }, () => 'ignore')
    for (const descriptor of leaking) stdio[descriptor] = nothing
    const child = spawn(program, args, { detached: true, stdio })
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject))
    child.unref()
    if (child.pid === undefined) throw new Error(`${program} has no process id`)
    return child.pid
  } finally {
    closeSync(nothing)
  }
}

/**
 * Descriptors above the standard ones that a child would inherit. Node closes most of those that it inherited itself.
 */
function inheritableDescriptors(): number[] {
  return readdirSync('/proc/self/fdinfo')
    .map(Number)
    .filter((descriptor) => descriptor > 2 && isInheritable(descriptor))
}

function isInheritable(descriptor: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'latin1'))
    return (parseInt(flags?.[1] ?? '0', 8) & closeOnExec) === 0
  } catch {
    // This was the descriptor of the listing itself.
    return false
  }
}
