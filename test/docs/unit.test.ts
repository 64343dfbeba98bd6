/** The unit of systemd that the documentation shows: a second instance on a machine must come up, too. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { loadSettings } from '../../src/config/load.ts'

const operations = await readFile(new URL('../../docs/operations.md', import.meta.url), 'utf8')
const unit = /```ini\n(# \/etc\/systemd\/system\/walrx@\.service[^]*?)```/.exec(operations)?.[1] ?? ''
const envFile = /```sh\n# \/etc\/walrx\/db1\.env\n([^]*?)```/.exec(operations)?.[1] ?? ''

const assignments = (text: string) =>
  Object.fromEntries([...text.matchAll(/^(?:Environment=)?([A-Z_]+)=(.*)$/gm)].map(([, name, value]) => [name, value]))

test('an instance has no status page unless its env file gives it a port, which outranks the unit', async () => {
  const [before, after] = unit.split(/^EnvironmentFile=.*%i.*$/m)
  assert.ok(before && after, 'the settings are those of the instance')
  const ofUnit = assignments(before)
  const listen = async (environment: Record<string, string | undefined>) => {
    const settings = await loadSettings({ command: 'wal-receive', flags: new Map(), environment })
    return settings.describe('statusListen')
  }
  assert.match(await listen(ofUnit), /=off/)
  assert.match(await listen({ ...ofUnit, ...assignments(envFile) }), /=127\.0\.0\.1:8432/)
})
