/**
 * What pg_combinebackup does (src/bin/pg_combinebackup/reconstruct.c), for machines that have none of the server's version:
 * the newest increment of a file says how long it is, and each block comes from the newest backup that has it. Shares no
 * code with what is tested.
 */
import { copyFile, mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { filesBelow } from './delta-proofs.ts'

const pageBytes = 8192
const marker = 'INCREMENTAL.'

/** An increment of a file, as the server sends it. */
interface Increment {
  readonly bytes: Buffer
  readonly blocks: readonly number[]
  /** Where the page of the first block begins. */
  readonly pagesAt: number
  readonly truncationLength: number
}

async function readIncrement(path: string): Promise<Increment> {
  const bytes = await readFile(path)
  if (bytes.readUInt32LE(0) !== 0xd3ae1f0d) throw new Error(`${path} is no increment`)
  const count = bytes.readUInt32LE(4)
  const blocks = Array.from({ length: count }, (_, index) => bytes.readUInt32LE(12 + 4 * index))
  const pagesAt = Math.ceil((12 + 4 * count) / pageBytes) * pageBytes
  return { bytes, blocks, pagesAt, truncationLength: bytes.readUInt32LE(8) }
}

/**
 * Makes a data directory, with the folders of tablespaces in it in place of links to them.
 * @param backups data directories as the server sent them, the full one first
 */
export async function combineIncrements(backups: readonly string[], output: string): Promise<void> {
  const newest = backups.at(-1) ?? ''
  for (const path of (await filesBelow(newest)).keys()) {
    const [folder, name] = [dirname(path), basename(path)]
    await mkdir(join(output, folder), { recursive: true })
    const target = join(output, folder, name.replace(marker, ''))
    if (name.startsWith(marker)) await reconstruct(backups, folder, name.slice(marker.length), target)
    else if (path === 'backup_label') await writeFile(target, await labelOf(newest))
    else await copyFile(join(newest, path), target)
  }
}

async function labelOf(backup: string): Promise<string> {
  const label = await readFile(join(backup, 'backup_label'), 'latin1')
  return label.replaceAll(/^INCREMENTAL FROM .*\n/gm, '')
}

async function reconstruct(backups: readonly string[], folder: string, name: string, target: string): Promise<void> {
  const increments: Increment[] = []
  let whole: string | undefined
  for (const backup of backups.toReversed()) {
    const path = join(backup, folder, name)
    if (existsSync(path)) {
      whole = path
      break
    }
    increments.push(await readIncrement(join(backup, folder, marker + name)))
  }
  const newest = increments[0]
  if (whole === undefined || !newest) throw new Error(`there is no whole file for ${folder}/${name}`)
  const length = Math.max(newest.truncationLength, (newest.blocks.at(-1) ?? -1) + 1)
  await copyFile(whole, target)
  await using file = await open(target, 'r+')
  await file.truncate(length * pageBytes)
  for (const { blocks, bytes, pagesAt } of increments.toReversed()) {
    for (const [index, block] of blocks.entries()) {
      if (block < length) await file.write(bytes, pagesAt + index * pageBytes, pageBytes, block * pageBytes)
    }
  }
}
