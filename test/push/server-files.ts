/** A data directory with WAL files that wait to be archived, for the tests of wal-push. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { madeSystemId, makeSegment, type MadeSegment } from '../harness/made/made-wal.ts'

/** See the file's header. */
export class ServerFiles {
  readonly dataDir: string
  readonly pgWal: string

  private constructor(dataDir: string) {
    this.dataDir = dataDir
    this.pgWal = join(dataDir, 'pg_wal')
  }

  /** Makes one, with the control file of the made-up cluster. */
  static async make(): Promise<ServerFiles> {
    const files = new ServerFiles(await mkdtemp(join(tmpdir(), 'walrx-push-')))
    mkdirSync(join(files.pgWal, 'archive_status'), { recursive: true })
    mkdirSync(join(files.dataDir, 'global'))
    const control = Buffer.alloc(8192)
    control.writeBigUInt64LE(madeSystemId)
    writeFileSync(join(files.dataDir, 'global', 'pg_control'), control)
    return files
  }

  path(name: string): string {
    return join(this.pgWal, name)
  }

  status(name: string, mark: 'ready' | 'done' = 'ready'): string {
    return join(this.pgWal, 'archive_status', `${name}.${mark}`)
  }

  /** Writes a file that waits to be archived. Returns its path. */
  put(name: string, content: Uint8Array | string): string {
    writeFileSync(this.path(name), content)
    writeFileSync(this.status(name), '')
    return this.path(name)
  }

  /** Writes a segment that waits to be archived. Returns its path. */
  segment(name: string, made?: MadeSegment): string {
    return this.put(name, makeSegment(name, made))
  }

  remove(): void {
    rmSync(this.dataDir, { recursive: true, force: true })
  }
}

/** Name of the nth segment of timeline 1. */
export function nth(segno: number): string {
  return `00000001${'0'.repeat(8)}${segno.toString(16).toUpperCase().padStart(8, '0')}`
}
