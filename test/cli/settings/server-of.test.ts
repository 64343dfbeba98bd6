import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { loadSettings } from '../../../src/config/load.ts'
import { conninfoOf } from '../../../src/cli/settings/server-of.ts'

let root: string
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'walrx-server-'))
  await writeFile(join(root, 'services'), '[db1]\nhost=db1.example\nport=6000\nuser=of-service\n')
})
after(() => rm(root, { recursive: true }))

// node-postgres #416
test('a service is read from its file, below flags and above variables', async () => {
  const environment = {
    PGSERVICE: 'db1',
    PGSERVICEFILE: join(root, 'services'),
    PGHOST: 'x',
    PGUSER: 'x',
    PGDATABASE: 'd',
  }
  const settings = await loadSettings({ command: 'backup-push', flags: new Map([['pgPort', '7000']]), environment })
  const { database, hosts, user } = conninfoOf({ options: settings.values, settings })
  assert.deepEqual(hosts, [{ host: 'db1.example', hostaddr: undefined, port: 7000 }])
  assert.deepEqual([user, database], ['of-service', 'd'])
})

test('a service file that cannot be read is an error with the reason', async () => {
  const settings = await loadSettings({
    command: 'backup-push',
    flags: new Map(),
    environment: { PGSERVICE: 'db1', PGSERVICEFILE: root },
  })
  assert.throws(() => conninfoOf({ options: settings.values, settings }), /service file ".*" cannot be read: EISDIR/)
})
