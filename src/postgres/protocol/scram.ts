/**
 * The client's side of SCRAM-SHA-256 (RFC 5802, RFC 7677; fe-auth-scram.c), with and without channel binding. There is
 * no limit to the iterations, as in libpq: the server's scram_iterations may be anything up to 2147483647.
 */
import { createHash, createHmac, pbkdf2, randomBytes, timingSafeEqual } from 'node:crypto'
import { promisify } from 'node:util'
import { saslBytes } from './password-text.ts'

/** The mechanism without channel binding. */
export const scramPlain = 'SCRAM-SHA-256'
/** The mechanism with channel binding. */
export const scramPlus = 'SCRAM-SHA-256-PLUS'

const derive = promisify(pbkdf2)

/** How the client binds to the TLS channel. */
export type ChannelBinding =
  | { readonly kind: 'none' }
  /** The client could, but the server does not offer it. */
  | { readonly kind: 'not offered' }
  /** The hash of the server's certificate (RFC 5929, tls-server-end-point). */
  | { readonly kind: 'bound'; readonly certificateHash: Uint8Array }

/** One login. */
export class ScramClient {
  /** The first message. */
  readonly first: string
  readonly #gs2Header: string
  readonly #binding: ChannelBinding
  readonly #nonce: string
  #serverSignature: Buffer | undefined

  constructor(binding: ChannelBinding, nonce: string = randomBytes(18).toString('base64')) {
    this.#binding = binding
    this.#nonce = nonce
    this.#gs2Header = binding.kind === 'bound' ? 'p=tls-server-end-point,,' : binding.kind === 'none' ? 'n,,' : 'y,,'
    this.first = `${this.#gs2Header}n=,r=${nonce}`
  }

  /**
   * The last message, with the proof.
   * @param serverFirst the server's first message
   * @throws Error for a message that breaks the protocol
   */
  async last(serverFirst: string, password: string): Promise<string> {
    const [, nonce, salt, count] = /^r=([^,]+),s=([A-Za-z0-9+/=]+),i=([1-9]\d{0,9})(?:,|$)/.exec(serverFirst) ?? []
    const iterations = Number(count)
    if (nonce === undefined || salt === undefined || iterations > 0x7fff_ffff) {
      throw new Error('its first message of SCRAM is malformed')
    }
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw new Error('its nonce of SCRAM does not continue ours')
    }
    const header = Buffer.from(this.#gs2Header)
    const bound = this.#binding.kind === 'bound' ? this.#binding.certificateHash : new Uint8Array()
    const withoutProof = `c=${Buffer.concat([header, bound]).toString('base64')},r=${nonce}`
    const bare = this.first.slice(this.#gs2Header.length)
    const authMessage = `${bare},${serverFirst},${withoutProof}`
    const salted = await saltedPassword(password, Buffer.from(salt, 'base64'), iterations)
    const clientKey = hmac(salted, 'Client Key')
    const signature = hmac(createHash('sha256').update(clientKey).digest(), authMessage)
    const proof = clientKey.map((byte, index) => byte ^ (signature[index] ?? 0))
    this.#serverSignature = hmac(hmac(salted, 'Server Key'), authMessage)
    return `${withoutProof},p=${Buffer.from(proof).toString('base64')}`
  }

  /** True when the server's last message proves that it knows the password, too. */
  isProof(serverLast: string): boolean {
    const claimed = Buffer.from(/^v=([A-Za-z0-9+/=]+)(?:,|$)/.exec(serverLast)?.[1] ?? '', 'base64')
    const own = this.#serverSignature
    return own !== undefined && claimed.length === own.length && timingSafeEqual(claimed, own)
  }
}

function hmac(key: Uint8Array, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest()
}

/** The last derivation: each login of one role has the same, and none that takes long runs twice at the same time. */
let known: { readonly key: string; readonly salted: Promise<Buffer> } | undefined

/** In Node's thread pool: a million iterations take half a second. */
function saltedPassword(password: string, salt: Buffer, iterations: number): Promise<Buffer> {
  const bytes = saslBytes(password)
  const key = createHash('sha256').update(bytes).update('\0').update(salt).update(`,${iterations}`).digest('hex')
  if (known?.key !== key) known = { key, salted: derive(bytes, salt, iterations, 32, 'sha256') }
  return known.salted
}
