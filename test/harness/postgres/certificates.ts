/** Certificates for the tests, made by the openssl command. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const run = promisify(execFile)

/** What a test says to be skipped by where there is no openssl command; undefined where there is one. */
export const withoutOpenssl: string | undefined = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' })
    return undefined
  } catch {
    return 'the openssl command is not installed'
  }
})()

/** Paths of a certificate and its key, PEM. */
export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** An authority in a directory of its own, with everything it issued. */
export class TestAuthority {
  readonly directory: string
  /** The authority's own certificate. */
  readonly cert: string
  readonly #key: string
  #count = 0

  private constructor(directory: string) {
    this.directory = directory
    this.cert = join(directory, 'ca.crt')
    this.#key = join(directory, 'ca.key')
  }

  static async create(name: string): Promise<TestAuthority> {
    const authority = new TestAuthority(await mkdtemp(join(tmpdir(), 'walrx-ca-')))
    const subject = ['-subj', `/CN=${name}`, '-days', '2']
    await run('openssl', ['req', '-x509', ...newKey, ...subject, '-keyout', authority.#key, '-out', authority.cert])
    await writeFile(join(authority.directory, 'index.txt'), '')
    await writeFile(join(authority.directory, 'crlnumber'), '01\n')
    const config = ['[ca]', 'default_ca = test', '[test]', `database = ${authority.directory}/index.txt`]
    config.push(`crlnumber = ${authority.directory}/crlnumber`, 'default_md = sha256', 'default_crl_days = 2', '')
    await writeFile(join(authority.directory, 'ca.conf'), config.join('\n'))
    return authority
  }

  /**
   * Issues a certificate.
   * @param commonName of a server its name, of a client its role
   * @param alternativeNames as openssl writes them, `DNS:localhost,IP:127.0.0.1`
   * @param password encrypts the key
   */
  async issue(commonName: string, alternativeNames?: string, password?: string): Promise<CertificateFiles> {
    const base = join(this.directory, `${commonName}-${++this.#count}`)
    const [cert, key, request, extensions] = [`${base}.crt`, `${base}.key`, `${base}.csr`, `${base}.ext`]
    const protection = password === undefined ? newKey : [...newKey.slice(0, -1), '-passout', `pass:${password}`]
    await run('openssl', ['req', ...protection, '-subj', `/CN=${commonName}`, '-keyout', key, '-out', request])
    await writeFile(extensions, alternativeNames === undefined ? '' : `subjectAltName=${alternativeNames}\n`)
    const issuer = ['-CA', this.cert, '-CAkey', this.#key, '-CAcreateserial', '-days', '2', '-extfile', extensions]
    await run('openssl', ['x509', '-req', '-in', request, ...issuer, '-out', cert])
    return { cert, key }
  }

  /** Revokes a certificate, or none, and returns the path of the authority's list of revocations. */
  async revoke(certificate?: CertificateFiles): Promise<string> {
    const list = join(this.directory, `crl-${++this.#count}.pem`)
    const as = ['ca', '-config', join(this.directory, 'ca.conf'), '-keyfile', this.#key, '-cert', this.cert]
    if (certificate) await run('openssl', [...as, '-revoke', certificate.cert])
    await run('openssl', [...as, '-gencrl', '-out', list])
    return list
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true })
  }
}

/** The last one leaves the key without a password. */
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
