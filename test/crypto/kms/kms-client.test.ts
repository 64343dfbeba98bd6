/** Requests to KMS: what its answers mean, where they go, and that none of them shows a key. Against moto, where that is there. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { encryptSlack } from '../../../src/crypto/crypter.ts'
import { KmsClient, type KmsOptions } from '../../../src/crypto/kms/kms-client.ts'
import { kmsCrypter } from '../../../src/crypto/kms/kms-crypter.ts'
import type { WalrxError } from '../../../src/primitives/errors.ts'
import { type KmsAnswer, startKms, testCredentials, type TestKms, withoutMoto } from '../../harness/aws/kms.ts'
import { TestAuthority, withoutOpenssl } from '../../harness/postgres/certificates.ts'
import { startHttpProxy } from '../../harness/store/http-proxy.ts'
import { isCode } from '../../storage/assertions.ts'

const arn = 'arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab'

const optionsOf = (kms: TestKms, more: Partial<KmsOptions> = {}): KmsOptions => ({
  keyId: arn,
  endpoint: kms.endpoint,
  label: `WALG_CSE_KMS_ID=${more.keyId ?? arn}`,
  access: testCredentials,
  attempts: 1,
  ...more,
})

const refusal = (name: string, message = 'words of KMS', status = 400): KmsAnswer => ({
  status,
  body: { __type: name, message },
})

describe('an answer of KMS', () => {
  const cases: readonly (readonly [answer: KmsAnswer, words: RegExp, hint: RegExp | undefined, transient: boolean])[] =
    [
      [
        refusal('AccessDeniedException', 'User: x is not authorized'),
        /refuses kms:Encrypt .*User: x/,
        /allow kms:Enc/,
        false,
      ],
      [refusal('NotFoundException'), /NotFoundException \(words of KMS\)/, /WALG_CSE_KMS_REGION/, false],
      [refusal('DisabledException'), /DisabledException/, /enable/, false],
      [refusal('KMSInvalidStateException'), /KMSInvalidStateException/, /state/, false],
      [refusal('InvalidKeyUsageException'), /InvalidKeyUsageException/, /symmetric/, false],
      [refusal('UnrecognizedClientException'), /UnrecognizedClientException/, /AWS_ACCESS_KEY_ID/, false],
      [refusal('ExpiredTokenException'), /ExpiredTokenException/, /renew/, false],
      [refusal('KMSInternalException', 'words', 500), /KMSInternalException/, undefined, true],
      [refusal('ThrottlingException'), /ThrottlingException/, undefined, true],
      [{ status: 503, body: '<html>busy</html>' }, /HTTP 503/, undefined, true],
    ]
  for (const [answer, words, hint, transient] of cases) {
    test(`${answer.status} ${JSON.stringify(answer.body)} is one line with the next step`, async () => {
      await using kms = await startKms()
      kms.answer = () => answer
      await assert.rejects(new KmsClient(optionsOf(kms)).wrap(randomBytes(32)), (error: WalrxError) => {
        assert.match(error.message, words)
        assert.match(error.message, /^AWS KMS in eu-west-1 .*kms:Encrypt with WALG_CSE_KMS_ID=arn:/)
        if (hint) assert.match(error.hint ?? '', hint)
        assert.equal(error.transient, transient)
        return isCode(error, 'WALRX_KEY_UNAVAILABLE')
      })
    })
  }

  test('of a ciphertext that is none of its is no failure', async () => {
    await using kms = await startKms()
    kms.answer = () => ({ status: 400, body: { __type: 'InvalidCiphertextException' } })
    assert.equal(await new KmsClient(optionsOf(kms)).unwrap(Buffer.alloc(184)), undefined)
    kms.answer = () => ({ status: 200, body: { Plaintext: randomBytes(16).toString('base64') } })
    assert.equal(await new KmsClient(optionsOf(kms)).unwrap(Buffer.alloc(184)), undefined, 'a key of another length')
  })

  test('that denies a ciphertext says nothing of the object, also once another could be decrypted', async () => {
    await using kms = await startKms()
    const client = new KmsClient(optionsOf(kms))
    const denied = refusal('AccessDeniedException', 'The ciphertext refers to a key that does not exist')
    kms.answer = () => denied
    await assert.rejects(client.unwrap(Buffer.alloc(184)), (error: WalrxError) => {
      assert.match(error.hint ?? '', /allow kms:Decrypt .* WALG_CSE_KMS_REGION/)
      return isCode(error, 'WALRX_KEY_UNAVAILABLE')
    })
    kms.answer = () => ({ status: 200, body: { Plaintext: randomBytes(32).toString('base64') } })
    assert.equal((await client.unwrap(Buffer.alloc(184)))?.symmetricKeySize, 32)
    kms.answer = () => denied
    await assert.rejects(client.unwrap(Buffer.alloc(184)), (error) => isCode(error, 'WALRX_KEY_UNAVAILABLE'))
  })

  test('that breaks off shows nothing of the key in it', async () => {
    await using kms = await startKms()
    const secret = randomBytes(32).toString('base64')
    for (const body of [`{"Plaintext":"${secret}`, `"${secret}"x`, `{"Plaintext":"${secret}"}}`]) {
      kms.answer = () => ({ status: 200, body })
      await assert.rejects(new KmsClient(optionsOf(kms)).unwrap(Buffer.alloc(184)), (error: WalrxError) => {
        const shown = `${error.stack} ${JSON.stringify(error)} ${String(error.cause)}`
        assert.ok(!shown.includes(secret.slice(0, 6)), shown)
        return isCode(error, 'WALRX_KEY_UNAVAILABLE')
      })
    }
  })

  test('that does not come is tried for again', async () => {
    await using kms = await startKms()
    kms.answer = () =>
      kms.requests.length < 3 ? refusal('ThrottlingException') : { status: 200, body: { CiphertextBlob: 'AQICAHg=' } }
    const wrapped = await new KmsClient(optionsOf(kms, { attempts: 5 })).wrap(randomBytes(32))
    assert.equal(wrapped.toString('hex'), '0102020078')
    assert.equal(kms.requests.length, 3)
    await kms[Symbol.asyncDispose]()
    await assert.rejects(new KmsClient(optionsOf(kms)).wrap(randomBytes(32)), (error: WalrxError) => {
      assert.match(error.message, /does not answer kms:Encrypt .*: ECONNREFUSED$/)
      assert.equal(error.transient, true)
      return isCode(error, 'WALRX_KEY_UNAVAILABLE')
    })
  })
})

describe('a request goes', () => {
  const signedFor = (kms: TestKms) =>
    /\/([^/]+)\/kms\/aws4_request/.exec(String(kms.requests.at(-1)?.headers['authorization']))?.[1]

  test('to the region that is set, else to that of the ARN, else to that of the store', async () => {
    await using kms = await startKms()
    kms.answer = () => ({ status: 200, body: { CiphertextBlob: 'AQICAHg=' } })
    const access = { ...testCredentials, region: 'us-west-2' }
    for (const [more, region] of [
      [{ access, region: 'sa-east-1' }, 'sa-east-1'],
      [{ access }, 'eu-west-1'],
      [{ access, keyId: 'alias/backups' }, 'us-west-2'],
    ] as const) {
      await new KmsClient(optionsOf(kms, more)).wrap(randomBytes(32))
      assert.equal(signedFor(kms), region)
    }
  })

  test(
    'to AWS through the proxy, with the authorities of the store beside all others',
    { skip: withoutOpenssl },
    async () => {
      await using authority = await TestAuthority.create('of the test')
      const host = 'kms.eu-west-1.amazonaws.com'
      await using kms = await startKms({ certificate: await authority.issue(host, `DNS:${host}`) })
      await using proxy = await startHttpProxy(kms.port)
      kms.answer = () => ({ status: 200, body: { CiphertextBlob: 'AQICAHg=' } })
      const access = { ...testCredentials, proxy: { httpsProxy: `http://127.0.0.1:${proxy.port}` } }
      const trusting = { ...access, caFile: authority.cert }
      await new KmsClient(optionsOf(kms, { endpoint: undefined, access: trusting })).wrap(randomBytes(32))
      assert.deepEqual(proxy.log, [`CONNECT ${host}:443`])
      const doubting = new KmsClient(optionsOf(kms, { endpoint: undefined, access }))
      await assert.rejects(doubting.wrap(randomBytes(32)), (error: WalrxError) => {
        assert.match(error.message, /UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED/)
        assert.equal(error.transient, false)
        return /S3_CA_CERT_FILE/.test(error.hint ?? '')
      })
    },
  )

  test('nowhere without a region', async (context) => {
    context.mock.property(process, 'env', { HOME: '/nonexistent', AWS_EC2_METADATA_DISABLED: 'true' })
    const client = new KmsClient({ keyId: 'alias/x', label: 'WALG_CSE_KMS_ID=alias/x', access: testCredentials })
    await assert.rejects(client.wrap(randomBytes(32)), (error: WalrxError) => {
      assert.match(error.message, /^no region is set for WALG_CSE_KMS_ID=alias\/x$/)
      return isCode(error, 'WALRX_USAGE')
    })
  })
})

test('objects that moto holds the key of', { skip: withoutMoto }, async () => {
  await using kms = await startKms({ moto: true })
  const keyId = await kms.createKey('eu-west-1')
  const crypter = () => kmsCrypter(optionsOf(kms, { keyId }))
  const content = randomBytes(200_000)
  const buffer = Buffer.concat([content, Buffer.alloc(encryptSlack(content.length))])
  const stored = buffer.subarray(0, await crypter().encryptInPlace(buffer, content.length))
  const reader = crypter()
  assert.equal(await reader.recognise(stored.subarray(0, reader.headBytes)), 'opens')
  const output: Uint8Array[] = []
  for await (const chunk of reader.decrypt(once(stored))) output.push(chunk)
  assert.deepEqual(Buffer.concat(output), content)
  assert.deepEqual(
    kms.requests.map(({ action }) => action),
    ['Encrypt', 'Decrypt'],
  )
  const changed = Buffer.from(stored)
  changed[60]! ^= 1
  assert.equal(await reader.recognise(changed.subarray(0, reader.headBytes)), 'other key')
  const unknown = kmsCrypter(optionsOf(kms, { keyId: 'alias/none' }))
  await assert.rejects(unknown.encryptInPlace(buffer, 10), (error: WalrxError) => {
    assert.match(error.message, /^AWS KMS in us-east-1 refuses kms:Encrypt with WALG_CSE_KMS_ID=alias\/none: NotFound/)
    return isCode(error, 'WALRX_KEY_UNAVAILABLE')
  })
})

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, undefined> {
  yield await Promise.resolve(bytes)
}
