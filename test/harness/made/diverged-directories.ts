/** Two data directories whose clusters have diverged, as far as wal-restore looks at them: nothing can be started there. */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32c } from '@node-rs/crc32'
import { parseControlState } from '../../../src/postgres/control-file.ts'

/**
 * Makes both of the control file of a running cluster on timeline 1: an old primary, and one of timeline 2 that left it
 * where a segment ends.
 * @param fork the end of an archived segment, after the last checkpoint: `0/8000000`
 */
export async function makeDiverged(
  control: string,
  fork: string,
  directories: { readonly target: string; readonly source: string },
): Promise<void> {
  const file = await readFile(control)
  for (const [directory, timeline] of [
    [directories.target, 1],
    [directories.source, 2],
  ] as const) {
    await mkdir(join(directory, 'global'), { recursive: true })
    await mkdir(join(directory, 'pg_wal'), { recursive: true })
    await writeFile(join(directory, 'global', 'pg_control'), withTimeline(file, timeline))
  }
  await writeFile(join(directories.source, 'pg_wal', '00000002.history'), `1\t${fork}\tno recovery target specified\n`)
}

/** The same with another timeline (checkPointCopy.ThisTimeLineID), and with the CRC at its place. */
function withTimeline(control: Buffer, timeline: number): Buffer {
  let end = 128
  while (end < 508 && crc32c(control.subarray(0, end)) !== control.readUInt32LE(end)) end += 4
  const changed = Buffer.from(control)
  changed.writeUInt32LE(timeline, 48)
  changed.writeUInt32LE(crc32c(changed.subarray(0, end)), end)
  if (parseControlState(changed)?.timeline !== timeline) throw new Error('the control file has no CRC')
  return changed
}
