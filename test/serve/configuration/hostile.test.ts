/** Random and mutated configurations: whatever stands there, there are mistakes with places, or none, and no secret in any. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { servedSummary } from '../../../src/cli/terminal/served/served-summary.ts'
import { mistakeLine } from '../../../src/serve/configuration/mistakes.ts'
import { readText } from './read-text.ts'

const directory = mkdtempSync(join(tmpdir(), 'walrx-hostile-'))
after(() => rmSync(directory, { recursive: true }))
const file = join(directory, 'key')
writeFileSync(file, 'of-a-file-8c1f2a')

const secrets = ['of-the-environment-4711', 'of-a-file-8c1f2a', 'plain-in-the-text-93ab-7d1c-55e0']
const environment = { PASSWORD: secrets[0], HOME: '/root', AWS_REGION: 'eu-central-1' }

const sound = `listen: 127.0.0.1:9713
memory: 2GB
jobs: 2
nice: 5
state: /var/lib/walrx
defaults:
  time-zone: Europe/Zurich
  storage: {s3-prefix: "s3://backups", aws-region: eu-central-1, s3-force-path-style: true}
  compression:
    compression-method: zstd
  backup: &daily
    schedule: [30 2 * * *, "@weekly"]
    jitter: 10m
  retention:
    schedule: 0 5 * * *
    keep-days: 14
clusters:
  orders:
    server: {dbname: "host=db1 user=walrx password=\${PASSWORD}"}
    storage: {storage-prefix: orders}
    environment:
      AWS_SECRET_ACCESS_KEY_FILE: ${file}
      AWS_ACCESS_KEY_ID: AKIA
  users:
    server:
      dbname: postgresql://walrx:${secrets[2]}@db2/
      pghost: db2
    storage:
      storage-prefix: users
    receive: {slotname: users, memory: 64MB, max-slot-lag: 20GB}
    backup: *daily
    environment:
      PGPASSWORD: \${PASSWORD}
      WALG_LIBSODIUM_KEY: ${secrets[2]}
`

async function check(text: string): Promise<void> {
  const { configuration, mistakes = [] } = await readText(text, environment)
  const lines = mistakes.map((mistake) => mistakeLine('walrx.yaml', mistake))
  assert.equal(configuration === undefined, lines.length > 0)
  const count = text.split(/\r\n|\r|\n/).length
  for (const line of lines) {
    const [, row, column] = /^walrx\.yaml:(\d+):(\d+): [^\n\r]+[^.\n\r]$/.exec(line) ?? []
    assert.ok(Number(row) >= 1 && Number(row) <= count && Number(column) >= 1, line)
  }
  const shown = lines.join('\n')
  for (const secret of secrets) assert.ok(!shown.includes(secret), shown)
}

const special = [
  '',
  ' ',
  '\n',
  '\t',
  ':',
  ': ',
  '- ',
  '"',
  "'",
  '{',
  '}',
  '[',
  ']',
  '&a ',
  '*a',
  '!x ',
  '|',
  '>',
  '%',
  '@',
  '`',
  '#',
  '? ',
  '---\n',
  '${',
  '}',
  '\0',
  '\u2028',
  '\ufeff',
  '~',
  'null',
  '<<: *daily',
  '-1',
  '1e999',
  'off',
  '\\',
]

/** Changes of the sound text: pieces go, come twice, change places, or have something put into them. */
const mutation = fc.tuple(
  fc.constantFrom('drop', 'double', 'insert', 'swap'),
  fc.nat(sound.length - 1),
  fc.nat(40),
  fc.constantFrom(...special),
)

function mutated(text: string, changes: readonly (readonly [string, number, number, string])[]): string {
  return changes.reduce((before, [kind, at, length, piece]) => {
    const [start, middle, end] = [before.slice(0, at), before.slice(at, at + length), before.slice(at + length)]
    if (kind === 'drop') return start + end
    if (kind === 'double') return start + middle + middle + end
    if (kind === 'insert') return start + piece + middle + end
    return start + end.slice(0, length) + middle + end.slice(length)
  }, text)
}

test('the sound one is sound', async () => {
  const { configuration, mistakes } = await readText(sound, environment)
  assert.ok(configuration, JSON.stringify(mistakes))
  const summary = servedSummary(configuration, 1_700_000_000_000)
  for (const secret of secrets) assert.ok(!summary.includes(secret), summary)
  await check(sound)
})

test('mutated configurations', async () => {
  const changes = fc.array(mutation, { minLength: 1, maxLength: 4 })
  await fc.assert(
    fc.asyncProperty(changes, (each) => check(mutated(sound, each))),
    { numRuns: 400 },
  )
})

test('whole values in the place of others', async () => {
  const lines = sound.split('\n')
  const value = fc.oneof(
    fc.json(),
    fc.string(),
    fc.constantFrom(...special),
    fc.constantFrom(
      '${PASSWORD}',
      's3://${PASSWORD}',
      'host=${PASSWORD}',
      'postgresql://a:b@${PASSWORD}/?x=${PASSWORD}',
    ),
  )
  await fc.assert(
    fc.asyncProperty(fc.nat(lines.length - 1), value, (at, text) => {
      return check(lines.map((line, row) => (row === at ? line.replace(/:.*$/, `: ${text}`) : line)).join('\n'))
    }),
    { numRuns: 300 },
  )
})

test('any text', async () => {
  const text = fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), fc.json(), fc.string({ maxLength: 500 }))
  await fc.assert(fc.asyncProperty(text, check), { numRuns: 300 })
})
