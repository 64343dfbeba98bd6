/** Files that wal-fetch writes until they are complete. */
import { readdir, unlink } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { runningProcess } from './recovery-process.ts'

/** Path of the file until it is complete: hidden, in the destination's directory, with the process id in its name. */
export function temporaryName(dest: string, pid: number): string {
  return join(dirname(dest), `.${basename(dest)}.walrx-${pid}`)
}

/** Removes temporary files that killed processes have left in the destination's directory. Ignores errors. */
export async function sweepTemporaries(dest: string): Promise<void> {
  const directory = dirname(dest)
  for (const name of await readdir(directory).catch(() => [])) {
    const pid = /^\..+\.walrx-(\d+)$/.exec(name)?.[1]
    if (pid === undefined || runningProcess(Number(pid))) continue
    await unlink(join(directory, name)).catch(() => {})
  }
}
