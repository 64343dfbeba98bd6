/** What the figures were measured on. */
import { execFile } from 'node:child_process'
import { closeSync, fsyncSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { cpus, release, totalmem, type } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { median } from './statistics.ts'

const run = promisify(execFile)

/** Facts about the machine, in words for people. */
export interface Machine {
  readonly date: string
  readonly cpu: string
  readonly memory: string
  readonly kernel: string
  readonly disk: string
  readonly node: string
  readonly postgres: string
  /** Load of the last minute when the run began, by /proc/loadavg: what else the machine was doing. */
  readonly loadBefore: string
}

/** Describes this machine, and the disk below `directory`. */
export async function describeMachine(directory: string, postgres: string): Promise<Machine> {
  const [cpu] = cpus()
  return {
    date: new Date().toISOString().slice(0, 16).replace('T', ' ') + ' UTC',
    cpu: `${cpus().length} × ${cpu?.model.trim() ?? 'unknown'}`,
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    kernel: `${type()} ${release()}`,
    disk: await describeDisk(directory),
    node: process.version,
    postgres,
    loadBefore: readFileSync('/proc/loadavg', 'latin1').split(' ')[0] ?? '',
  }
}

/** Type of the file system, and what an fsync costs there: archives are fsynced, and it decides much. */
async function describeDisk(directory: string): Promise<string> {
  const mounts = readFileSync('/proc/mounts', 'latin1')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, point]) => point !== undefined && `${directory}/`.startsWith(point.endsWith('/') ? point : `${point}/`))
    .sort((a, b) => (b[1]?.length ?? 0) - (a[1]?.length ?? 0))
  const { bsize, bavail } = await statfs(directory)
  const kind = mounts[0]?.[2] ?? 'unknown file system'
  const free = ((bsize * bavail) / 1e9).toFixed(0)
  return `${kind}, ${free} GB free, write and fsync of 1 MB ${fsyncMs(directory).toFixed(1)} ms (median of 20)`
}

function fsyncMs(directory: string): number {
  const path = join(directory, 'fsync-probe')
  const file = openSync(path, 'w')
  const bytes = Buffer.alloc(1e6, 1)
  const times = Array.from({ length: 20 }, () => {
    const start = performance.now()
    writeSync(file, bytes, 0, bytes.length, 0)
    fsyncSync(file)
    return performance.now() - start
  })
  closeSync(file)
  rmSync(path)
  return median(times)
}

/** What a program prints for its version, on one line. */
export async function programVersion(binary: string, args: readonly string[] = ['--version']): Promise<string> {
  const { stdout } = await run(binary, args)
  return stdout.trim().replace(/\s+/g, ' ')
}
