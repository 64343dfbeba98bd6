/** WAL-G and WAL-RUS, where the environment names their programs. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import process from 'node:process'
import { superuser } from '../postgres/postgres-files.ts'
import type { TestPostgres } from '../postgres/postgres.ts'
import type { EncryptionRow, PeerName } from './encryption-rows.ts'

/** One of them. */
export interface Peer {
  readonly name: PeerName
  readonly binary: string | undefined
}

/** All of them. */
export const peers: readonly Peer[] = [
  { name: 'WAL-G', binary: process.env['WALG_BIN'] },
  { name: 'WAL-RUS', binary: process.env['WALRUS_BIN'] },
]

/** Why a peer cannot take part in a test of a row, or false. */
export function peerSkip({ binary, name }: Peer, row: EncryptionRow): string | false {
  if (binary === undefined) return `no program of ${name} given`
  return !row.peers.includes(name) && `${name} has no ${row.method}`
}

/** Longer than any command here takes; WAL-G tries for many minutes. */
const patienceMs = 120_000

/** Runs a command of a peer to its end, and expects it to succeed. Its output is at the end of what an error says. */
export function runPeer(
  { binary, name }: Peer,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<string> {
  const environment = { PATH: process.env['PATH'], ...env }
  return new Promise((resolve, reject) => {
    const options = { env: environment, timeout: patienceMs, maxBuffer: 64 * 1024 * 1024 }
    execFile(binary ?? '', [...args], options, (error, stdout, stderr) => {
      if (!error) resolve(stdout)
      else reject(new assert.AssertionError({ message: `${name} ${args.join(' ')}: ${stderr.slice(-3000)}` }))
    })
  })
}

/** How a peer reaches a server. */
export function serverVariables(server: TestPostgres): Record<string, string> {
  return { PGHOST: server.socketDir, PGPORT: String(server.port), PGUSER: superuser, PGDATABASE: 'postgres' }
}
