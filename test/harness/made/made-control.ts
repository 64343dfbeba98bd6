/** pg_control files with and without checksums: made ones, and those of real clusters changed as pg_checksums does. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { crc32c } from '@node-rs/crc32'

/** Where a version has `data_checksum_version`, and the CRC, as a compiler lays the structure out on x86-64. */
const layouts = {
  960: { checksums: 240, end: 244 },
  1300: { checksums: 252, end: 288 },
  1700: { checksums: 252, end: 288 },
  1800: { checksums: 252, end: 292 },
  1905: { checksums: 268, end: 308 },
} as const

/** pg_control_version: 9.6, 13 to 16, 17, 18, 19. */
export type ControlVersion = keyof typeof layouts

/** Makes one. @param checksums 0 off, 1 on, 2 inprogress-off, 3 inprogress-on */
export function madeControl(version: ControlVersion, checksums: number, seed = 1): Buffer {
  const file = Buffer.alloc(8192)
  const { end } = layouts[version]
  for (let at = 0; at < end; at++) file[at] = (at * 31 + seed * 17) & 0xff
  file.writeUInt32LE(version, 8)
  return withChecksums(file, checksums)
}

/** The same with another number. */
export function withChecksums(control: Buffer, checksums: number): Buffer {
  const changed = Buffer.from(control)
  const layout = layouts[changed.readUInt32LE(8) as ControlVersion]
  changed.writeUInt32LE(checksums, layout.checksums)
  changed.writeUInt32LE(crc32c(changed.subarray(0, layout.end)), layout.end)
  return changed
}

/** What pg_checksums leaves in pg_control of a cluster that is shut down; the pages stay as they are. */
export async function switchChecksums(dataDir: string, checksums: number): Promise<void> {
  const path = join(dataDir, 'global', 'pg_control')
  await writeFile(path, withChecksums(await readFile(path), checksums))
}
