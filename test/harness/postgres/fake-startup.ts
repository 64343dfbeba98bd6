/** A process in the place of a server's startup process: it runs until it is stopped. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

/** See the file's header. */
export interface FakeStartup extends AsyncDisposable {
  readonly pid: number
  /** Ends it, and waits until it is gone. */
  end(): Promise<void>
}

/** Starts one. Its parent, the test, stands for the postmaster. */
export async function startFakeStartup(): Promise<FakeStartup> {
  const child: ChildProcess = spawn('sleep', ['1000'], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  await once(child, 'spawn')
  const end = async () => {
    child.kill('SIGKILL')
    await exited
  }
  return { pid: child.pid ?? 0, end, [Symbol.asyncDispose]: end }
}
