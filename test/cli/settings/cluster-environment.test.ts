/** What a served cluster, its jobs and its key command have of the environment of walrx, and what of other clusters. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { MetricsPage } from '../../../src/observe/metrics-page.ts'
import { silentLog } from '../../../src/observe/log.ts'
import { environmentOf, inheritedEnvironment } from '../../../src/cli/settings/served/cluster-environment.ts'
import { launchOf, servedSettings } from '../../../src/cli/settings/served/served-cluster.ts'
import { openKeys } from '../../../src/config/keys/key-sources.ts'
import type { ClusterPlan } from '../../../src/serve/configuration/cluster-plan.ts'
import { mistakeLines, readText } from '../../serve/configuration/read-text.ts'

const pair = { AWS_ACCESS_KEY_ID: 'AKIA-MACHINE', AWS_SECRET_ACCESS_KEY: 'of the machine' }
const file = (defaults: string, own: string) => `listen: off
defaults: ${defaults}
clusters:
  orders:
    server: {dbname: host=db1}
    storage: {s3-prefix: s3://backups/orders, aws-region: eu-central-1}
    retention: {schedule: '@daily', keep-days: 7}
    environment: ${own}
`

async function planOf(defaults: string, own: string, environment = {}): Promise<ClusterPlan> {
  const { configuration, mistakes } = await readText(file(defaults, own), environment)
  assert.ok(configuration, JSON.stringify(mistakes))
  return configuration.clusters[0] as ClusterPlan
}

/** What of AWS the receiver, and a job, get. */
async function awsOf(defaults: string, own: string, environment: Record<string, string>) {
  const plan = await planOf(defaults, own)
  const inherited = inheritedEnvironment(environment)
  const [job] = plan.jobs
  assert.ok(job)
  const ofJob = launchOf(job.call, inherited, 'info').environment
  const each = [environmentOf(plan.receive, inherited), ofJob].map((variables) =>
    Object.fromEntries(Object.entries(variables).filter(([name]) => /^AWS_(?!REGION)/.test(name))),
  )
  assert.deepEqual(each[0], each[1])
  return each[0]
}

describe('credentials of a cluster', () => {
  test('are one group: its own take the place of all of the machine', async () => {
    const files = { AWS_SHARED_CREDENTIALS_FILE: '/etc/aws' }
    const machine = { ...pair, AWS_SESSION_TOKEN: 't', AWS_ROLE_ARN: 'arn:x', ...files }
    assert.deepEqual(await awsOf('{}', '{}', machine), machine)
    assert.deepEqual(await awsOf('{}', '{AWS_PROFILE: one}', machine), { AWS_PROFILE: 'one', ...files })
    assert.deepEqual(await awsOf('{}', '{AWS_ACCESS_KEY_ID: AKIA, AWS_SECRET_ACCESS_KEY: own}', machine), {
      AWS_ACCESS_KEY_ID: 'AKIA',
      AWS_SECRET_ACCESS_KEY: 'own',
      ...files,
    })
    const role = '{AWS_ROLE_ARN: "arn:own", AWS_WEB_IDENTITY_TOKEN_FILE: /token}'
    const own = { AWS_ROLE_ARN: 'arn:own', AWS_WEB_IDENTITY_TOKEN_FILE: '/token' }
    assert.deepEqual(await awsOf('{}', role, { ...pair, AWS_PROFILE: 'machine' }), own)
    assert.deepEqual(await awsOf(`{environment: ${role}}`, '{}', pair), own)
  })

  test('take the place of all of defaults', async () => {
    const defaults = '{environment: {AWS_ACCESS_KEY_ID: AKIA, AWS_SECRET_ACCESS_KEY: x, AWS_SESSION_TOKEN: y}}'
    assert.deepEqual(await awsOf(defaults, '{AWS_PROFILE: one}', {}), { AWS_PROFILE: 'one' })
    const files = '{environment: {AWS_SHARED_CREDENTIALS_FILE: /etc/aws, AWS_PROFILE: all}}'
    const expected = { AWS_SHARED_CREDENTIALS_FILE: '/etc/aws', AWS_PROFILE: 'one' }
    assert.deepEqual(await awsOf(files, '{AWS_PROFILE: one}', {}), expected)
    assert.deepEqual(await awsOf(files, '{AWS_SHARED_CREDENTIALS_FILE: /own}', pair), {
      AWS_SHARED_CREDENTIALS_FILE: '/own',
    })
  })

  test('are whole, or a mistake', async () => {
    const secret = '{environment: {AWS_SECRET_ACCESS_KEY: x}}'
    assert.deepEqual(await mistakeLines(file(secret, '{AWS_ACCESS_KEY_ID: AKIA}')), [
      'walrx.yaml:8:38: AWS_ACCESS_KEY_ID has no AWS_SECRET_ACCESS_KEY beside it: set both for the cluster, or both in defaults',
    ])
    assert.match((await mistakeLines(file('{}', '{AWS_SESSION_TOKEN: t}'))).join(), /8:38: AWS_SESSION_TOKEN has no/)
    assert.match(
      (await mistakeLines(file('{}', '{AWS_CONTAINER_CREDENTIALS_FULL_URI: "http://x"}'))).join(),
      /8:19: AWS_CONTAINER_CREDENTIALS_FULL_URI counts only in the environment of walrx itself/,
    )
  })
})

describe('the environment of a cluster', () => {
  const machine = {
    PATH: process.env['PATH'] ?? '/bin',
    HOME: '/root',
    LC_ALL: 'C',
    NODE_EXTRA_CA_CERTS: '/ca',
    HTTPS_PROXY: 'http://proxy',
    AWS_REGION: 'eu-central-1',
    NODE_CHANNEL_FD: '3',
    NOTIFY_SOCKET: '/run/x',
    PGHOST: 'elsewhere',
    WALG_FILE_PREFIX: '/elsewhere',
    ORDERS_PASSWORD: 'of orders',
    AWS_SECRET_ACCESS_KEY_USERS: 'of users',
    VAULT_TOKEN: 'of users',
  }
  const own = '{PGPASSWORD: "${ORDERS_PASSWORD}", MY_VAULT: here}'

  test('has nothing that another cluster may have by ${…}', async () => {
    const plan = await planOf('{}', own, machine)
    const [job] = plan.jobs
    assert.ok(job)
    const { command, environment } = launchOf(job.call, inheritedEnvironment(machine), 'info')
    const settings = ['AWS_REGION', 'MY_VAULT', 'WALG_CONFIG_PATH', 'WALG_S3_PREFIX']
    const ofMachine = ['HOME', 'HTTPS_PROXY', 'LC_ALL', 'NODE_EXTRA_CA_CERTS', 'PATH']
    const ofLog = ['WALRX_LOG_FORMAT', 'WALRX_LOG_LEVEL']
    assert.deepEqual(Object.keys(environment).sort(), [...settings, ...ofMachine, ...ofLog].sort())
    assert.ok(!command.join(' ').includes('of orders'))
  })

  test('is that of the key command of the receiver too', async () => {
    const script =
      'test -z "$VAULT_TOKEN$AWS_SECRET_ACCESS_KEY_USERS" && test "$PGPASSWORD" = "of orders" && echo "$MY_VAULT"'
    const withCommand = `{PGPASSWORD: "\${ORDERS_PASSWORD}", MY_VAULT: ${'0a'.repeat(32)}, WALG_LIBSODIUM_KEY_TRANSFORM: hex, WALRX_KEY_COMMAND: '${script}'}`
    const plan = await planOf('{}', withCommand, machine)
    const parts = {
      memoryBytes: 64 * 1024 ** 2,
      log: silentLog,
      metrics: new MetricsPage('test'),
      gapBackup: { take: () => Promise.reject(new Error('no gap')) },
    }
    process.env['VAULT_TOKEN'] = 'of users'
    try {
      const { storage } = await servedSettings(plan, parts, inheritedEnvironment(machine))
      const { writing } = await openKeys(storage, () => assert.fail('no KMS'))
      assert.equal(writing.length, 1)
    } finally {
      delete process.env['VAULT_TOKEN']
    }
  })
})
