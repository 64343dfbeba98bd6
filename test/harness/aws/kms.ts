/**
 * AWS KMS for tests: a front that answers by itself what a test says, and passes the rest on to moto's KMS.
 *
 * moto encrypts 32 bytes to 96 of its own format, AWS to 184 that begin with 01 02 02 00 78. WAL-G reads exactly 184. So the
 * front gives moto's ciphertexts AWS's beginning and length, and takes both off again.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import type { CertificateFiles } from '../postgres/certificates.ts'
import { freePort } from '../ports.ts'

/** What a test says to be skipped by where there is no moto_server; undefined where there is one. */
export const withoutMoto: string | undefined = (() => {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    try {
      accessSync(join(folder, 'moto_server'), constants.X_OK)
      return undefined
    } catch {
      continue
    }
  }
  return 'moto_server is not installed'
})()

/** An answer of KMS. */
export interface KmsAnswer {
  readonly status: number
  /** An object as JSON; a string or nothing as it is. */
  readonly body?: object | string
}

/** A request to KMS. */
export interface KmsRequest {
  /** `Encrypt`, `Decrypt` and so on. */
  readonly action: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: Record<string, unknown>
}

/** See the file's header. */
export interface TestKms extends AsyncDisposable {
  readonly endpoint: string
  readonly port: number
  readonly requests: KmsRequest[]
  /** Answers instead of moto, where it returns something. */
  answer: ((request: KmsRequest) => KmsAnswer | undefined) | undefined
  /** Makes a key in moto. @returns its ARN */
  createKey(region?: string): Promise<string>
  /** Any other request to moto. */
  ask(action: string, body: object, region?: string): Promise<Record<string, unknown>>
}

/** Credentials that moto takes. */
export const testCredentials = { accessKeyId: 'ak', secretAccessKey: 'sk12345678' }

const awsBytes = 184
const awsHead = Buffer.from('0102020078', 'hex')
const motoBytes = 96

/**
 * Starts a front, and moto_server where that is asked for.
 * @param certificate for TLS; default none, with http
 */
export async function startKms(options: { moto?: boolean; certificate?: CertificateFiles } = {}): Promise<TestKms> {
  const moto = options.moto ? await startMoto() : undefined
  const requests: KmsRequest[] = []
  const serve = async (incoming: IncomingMessage, response: ServerResponse) => {
    const text = Buffer.concat(await incoming.toArray()).toString()
    const action = String(incoming.headers['x-amz-target']).replace('TrentService.', '')
    const request = { action, headers: incoming.headers, body: JSON.parse(text || '{}') as Record<string, unknown> }
    requests.push(request)
    const { status, body = '' } = kms.answer?.(request) ?? (await passOn(request, moto?.port))
    response.writeHead(status, { 'content-type': 'application/x-amz-json-1.1' })
    response.end(typeof body === 'string' ? body : JSON.stringify(body))
  }
  const listener: RequestListener = (incoming, response) => {
    serve(incoming, response).catch((error: unknown) => response.destroy(error as Error))
  }
  const server = options.certificate
    ? createTlsServer(
        { cert: await readFile(options.certificate.cert), key: await readFile(options.certificate.key) },
        listener,
      )
    : createServer(listener)
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => sockets.add(socket))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const ask = async (action: string, body: object, region = 'us-east-1') => {
    const credential = `Credential=ak/20260101/${region}/kms/aws4_request`
    const headers = { authorization: `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=host, Signature=0` }
    const answer = await passOn({ action, headers, body: body as Record<string, unknown> }, moto?.port)
    return answer.body as Record<string, unknown>
  }
  const kms: TestKms = {
    port,
    endpoint: `${options.certificate ? 'https' : 'http'}://127.0.0.1:${port}`,
    requests,
    answer: undefined,
    ask,
    createKey: async (region) => {
      const { KeyMetadata } = await ask('CreateKey', {}, region)
      return (KeyMetadata as { Arn: string }).Arn
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await moto?.stop()
    },
  }
  return kms
}

async function passOn({ action, body, headers }: KmsRequest, port: number | undefined): Promise<KmsAnswer> {
  if (port === undefined) return { status: 500, body: { __type: 'KMSInternalException', message: 'no answer is set' } }
  const sent = action === 'Decrypt' ? { ...body, CiphertextBlob: ofMoto(String(body['CiphertextBlob'])) } : body
  const answer = await fetch(`http://127.0.0.1:${port}/`, {
    method: 'POST',
    headers: {
      'content-type': 'application/x-amz-json-1.1',
      'x-amz-target': `TrentService.${action}`,
      authorization: String(headers['authorization']),
    },
    body: JSON.stringify(sent),
  })
  const result = (await answer.json()) as Record<string, unknown>
  if (action === 'Encrypt' && answer.ok) result['CiphertextBlob'] = ofAws(String(result['CiphertextBlob']))
  return { status: answer.status, body: result }
}

function ofAws(blob: string): string {
  const padding = Buffer.alloc(awsBytes - awsHead.length - motoBytes, 0x5a)
  return Buffer.concat([awsHead, Buffer.from(blob, 'base64'), padding]).toString('base64')
}

/** What was changed stays as it is, so that moto refuses it. */
function ofMoto(text: string): string {
  const blob = Buffer.from(text, 'base64')
  const inner = blob.subarray(awsHead.length, awsHead.length + motoBytes).toString('base64')
  return blob.length === awsBytes && ofAws(inner) === blob.toString('base64') ? inner : text
}

/** Ends when its standard input does: with this process, however that ends. */
const script = 'moto_server "$@" & pid=$!; cat >/dev/null; kill -9 $pid'

async function startMoto(): Promise<{ readonly port: number; readonly stop: () => Promise<void> }> {
  const port = await freePort()
  const child = spawn('sh', ['-c', script, 'sh', '-H', '127.0.0.1', '-p', String(port)], {
    stdio: ['pipe', 'ignore', 'pipe'],
  })
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stderr })
  const running = (async () => {
    for await (const line of lines) if (line.includes('Running on')) return
    throw new Error('moto_server ended before it listened')
  })()
  await running
  child.stderr.resume()
  return {
    port,
    stop: async () => {
      child.stdin.end()
      await ended
    },
  }
}
