import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { jsonSchema } from '../../src/serve/configuration/json-schema.ts'
import { clusterKeys, environmentKey, jobTable, sections } from '../../src/serve/configuration/shape.ts'
import { repository } from '../lint/source-files.ts'
import { readText } from '../serve/configuration/read-text.ts'
import { schemaFile } from './serve-schema.ts'

const text = readFileSync(join(repository, 'docs', 'serve.md'), 'utf8')

test('docs/walrx-serve.schema.json is what walrx serve --schema prints', () => {
  assert.deepEqual(JSON.parse(readFileSync(schemaFile, 'utf8')), JSON.parse(JSON.stringify(jsonSchema())))
})

test('the example of docs/serve.md is a configuration without mistakes', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'walrx-docs-'))
  try {
    const key = join(directory, 'key')
    writeFileSync(key, 'A'.repeat(32))
    writeFileSync(join(directory, 'services'), '[users]\nhost=db3\nuser=walrx\n')
    const example = /```yaml\n([^]*?)```/.exec(text)?.[1] ?? ''
    const services = `    environment: {PGSERVICEFILE: ${join(directory, 'services')}}\n`
    const here = example.replace('/run/secrets/walrx-key', key).replace('  users:\n', `  users:\n${services}`)
    const { configuration, mistakes } = await readText(here, { ORDERS_PASSWORD: 'x' }, true)
    assert.ok(configuration, JSON.stringify(mistakes))
    assert.deepEqual(
      configuration.clusters.map(({ jobs, name }) => [name, jobs.map((job) => job.name)]),
      [
        ['orders', ['backup', 'retention', 'verify']],
        ['users', ['backup', 'retention', 'verify', 'scrub']],
      ],
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
})

test('docs/serve.md has every section, and the command of every job', () => {
  for (const name of [...sections.keys(), ...clusterKeys.keys(), environmentKey])
    assert.ok(text.includes(`\`${name}\``), name)
  for (const [name, { command, words }] of Object.entries(jobTable)) {
    const call = ['walrx', command, ...words.filter((word) => word.startsWith('--'))].join(' ')
    assert.match(text, new RegExp(`^\\| \`${name}\` +\\| \`${call}\` +\\|$`, 'm'))
  }
})
