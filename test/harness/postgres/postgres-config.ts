/** Configuration files of the test servers. */
import { appendFile, chmod, copyFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { giveToServer, superuser } from './postgres-files.ts'

/** Certificate files for a server's TLS: paths of PEM files. */
export interface ServerTls {
  readonly cert: string
  readonly key: string
  /** Authorities for client certificates. */
  readonly ca?: string
  readonly crl?: string
}

/** What a server's configuration can be given at start and later. */
export interface ServerConfig {
  /** Lines of postgresql.conf, as `name: value`; values are quoted by us. */
  readonly settings?: Readonly<Record<string, string>>
  /** Lines of pg_hba.conf, after one that allows the superuser on the Unix socket. Replaces `auth`. */
  readonly hba?: string
  /** How everyone logs in over TCP. Default trust. */
  readonly auth?: 'trust' | 'scram'
  readonly tls?: ServerTls
}

/** Appends to postgresql.conf, where later lines win, and replaces pg_hba.conf when `config` says anything about it. */
export async function writeServerConfig(dataDir: string, config: ServerConfig): Promise<void> {
  const settings: Record<string, string> = { ...config.settings }
  if (config.tls) Object.assign(settings, await installTls(dataDir, config.tls))
  const lines = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`)
  await appendFile(join(dataDir, 'postgresql.conf'), lines.join(''))
  const method = config.auth === 'scram' ? 'scram-sha-256' : 'trust'
  const open = `local all,replication all trust\nhost all,replication all 127.0.0.1/32 ${method}\n`
  const hba = config.hba ?? (config.auth && open)
  if (hba === undefined) return
  await writeFile(join(dataDir, 'pg_hba.conf'), `local all ${superuser} trust\n${hba.trimEnd()}\n`)
}

/** Copies certificates to where the server may read them, and returns the settings that name them. */
async function installTls(dataDir: string, tls: ServerTls): Promise<Record<string, string>> {
  const settings: Record<string, string> = { ssl: 'on' }
  for (const [kind, path] of Object.entries(tls)) {
    const target = join(dataDir, `test-${kind}.pem`)
    await copyFile(path, target)
    // The server refuses a key that others can read.
    await chmod(target, 0o600)
    await giveToServer(target)
    settings[`ssl_${kind}_file`] = target
  }
  return settings
}
