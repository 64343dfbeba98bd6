/** `walrx serve` over real servers, for tests: its file, its process, and what its pages say. */
import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { freePort } from '../../harness/ports.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import { until } from '../../harness/time/until.ts'
import { newServerDirectory } from '../../harness/walrx/test-workspace.ts'
import { startWalrx, type WalrxProcess } from '../../harness/walrx/walrx-process.ts'

/** What /readyz says of one cluster. */
export interface ShownCluster {
  readonly status: string
  readonly reason?: string
  readonly service: string
  readonly durableLsn?: string
  readonly memory_bytes: number
  readonly poolCapacity?: number
  readonly jobs: Readonly<Record<string, ShownJob>>
}

/** What it says of a job. */
export interface ShownJob {
  readonly state: string
  readonly next: string | null
  readonly last_success: string | null
  readonly last: { readonly outcome: string; readonly error?: string; readonly started: string } | null
}

/** A directory with the file and the state, and the address of the pages. */
export class ServeWorld {
  readonly directory: string
  readonly path: string
  readonly state: string
  readonly port: number

  private constructor(directory: string, port: number) {
    this.directory = directory
    this.path = join(directory, 'walrx.yaml')
    this.state = join(directory, 'state')
    this.port = port
  }

  static async open(): Promise<ServeWorld> {
    const directory = newServerDirectory('serve')
    await mkdir(directory, { recursive: true })
    return new ServeWorld(directory, await freePort())
  }

  /** Makes the directory of an archive. */
  async archive(name: string): Promise<string> {
    const path = join(this.directory, name)
    await mkdir(path, { recursive: true })
    return path
  }

  /** Writes the file: keys at the top that are the same everywhere, and `rest`. */
  async write(rest: object): Promise<void> {
    // JSON is YAML.
    const text = JSON.stringify(
      { listen: `127.0.0.1:${this.port}`, state: this.state, memory: '256MB', ...rest },
      null,
      1,
    )
    await writeFile(this.path, text)
  }

  start(env: Readonly<Record<string, string>> = {}): WalrxProcess {
    return startWalrx(['serve', '--config', this.path], { env })
  }

  /** What /readyz answers, whatever its status. */
  async shown(): Promise<{
    readonly status: string
    readonly reason?: string
    readonly clusters: Record<string, ShownCluster>
  }> {
    const response = await fetch(`http://127.0.0.1:${this.port}/readyz`)
    return (await response.json()) as Awaited<ReturnType<ServeWorld['shown']>>
  }

  /** One cluster of it. */
  async cluster(name: string): Promise<ShownCluster> {
    const found = (await this.shown()).clusters[name]
    assert.ok(found, `${name} is shown`)
    return found
  }

  /** Waits until a cluster is shown as it is wanted. */
  async becomes(name: string, what: string, isSo: (cluster: ShownCluster) => boolean): Promise<void> {
    await until(`${name} ${what}`, async () => {
      const found = (await this.shown().catch(() => undefined))?.clusters[name]
      return found && isSo(found)
    })
  }

  async metrics(): Promise<string> {
    return (await fetch(`http://127.0.0.1:${this.port}/metrics`)).text()
  }

  /** The state of a cluster's jobs, as it is kept. */
  async kept(cluster: string): Promise<Record<string, { readonly running?: { readonly pid?: number } }>> {
    const text = await readFile(join(this.state, `${cluster}.json`), 'utf8')
    return (JSON.parse(text) as { jobs: Record<string, { readonly running?: { readonly pid?: number } }> }).jobs
  }
}

/** The process of the server that sends to a slot. */
export async function walsender(server: TestPostgres, slot = 'walrx'): Promise<number | undefined> {
  const rows = await server.sql<{ active_pid: number | null }>(
    `select active_pid from pg_replication_slots where slot_name = '${slot}'`,
  )
  return rows[0]?.active_pid ?? undefined
}
