/** A process in the place of a server's startup process: it runs until it is stopped. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runningProcess } from '../../../src/restore/wal/recovery-process.ts'
import { until } from '../time/until.ts'

/** See the file's header. */
export interface FakeStartup extends AsyncDisposable {
  readonly pid: number
  /** Ends it, and waits until it is gone. */
  end(): Promise<void>
}

/**
 * Starts one. Its parent, the test, stands for the postmaster.
 * @param dataDir where it is to look like the startup process of the server there
 */
export async function startFakeStartup(dataDir?: string): Promise<FakeStartup> {
  if (dataDir !== undefined) await writeFile(join(dataDir, 'postmaster.pid'), `${process.pid}\n${dataDir}\n`)
  const child: ChildProcess =
    dataDir === undefined
      ? spawn('sleep', ['1000'], { stdio: 'ignore' })
      : spawn(process.execPath, ['-e', 'setInterval(() => {}, 1e9)'], { stdio: 'ignore' })
  const exited = once(child, 'exit')
  await once(child, 'spawn')
  // Node gives its process another name than that of its file, soon after its start.
  const isNamed = () => runningProcess(child.pid ?? 0)?.program === runningProcess(process.pid)?.program
  if (dataDir !== undefined) await until('the program', isNamed)
  const end = async () => {
    child.kill('SIGKILL')
    await exited
  }
  return { pid: child.pid ?? 0, end, [Symbol.asyncDispose]: end }
}
