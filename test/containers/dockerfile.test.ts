import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { commands } from '../../src/cli/command-loaders.ts'
import { knownNames } from '../../src/config/setting-names.ts'
import { repository } from '../lint/source-files.ts'
import { dockerfile } from './compose.ts'
import { readDockerfile, readInstructions } from './dockerfile.ts'

const { config, stages } = dockerfile

/** What the Dockerfile takes from the checkout. */
const contextSources = stages
  .flatMap(({ steps }) => steps)
  .flatMap((step) => (step.kind === 'copy' && step.from === undefined ? step.sources : []))

describe('the image', () => {
  test('is built and run by the same Node 24', () => {
    for (const { base } of stages) assert.equal(base, 'node:24-slim')
  })

  test('is built from files that there are, and Docker is given those and no others', () => {
    const [first, ...rest] = readFileSync(join(repository, 'docker', 'Dockerfile.dockerignore'), 'utf8')
      .trimEnd()
      .split('\n')
    assert.equal(first, '*')
    assert.deepEqual(rest.sort(), [...new Set(contextSources)].map((path) => `!${path}`).sort())
    for (const path of contextSources) assert.ok(existsSync(join(repository, path)), path)
  })

  test('runs no install script of a package, and needs none', () => {
    const installs = stages
      .flatMap(({ steps }) => steps)
      .flatMap((step) => (step.kind === 'run' ? step.command.split('&&') : []))
      .filter((command) => /\bnpm (ci|install)\b/.test(command))
    assert.equal(installs.length, 2)
    for (const command of installs) assert.match(command, /--ignore-scripts/)
    const lock = JSON.parse(readFileSync(join(repository, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { dev?: boolean; hasInstallScript?: boolean }>
    }
    const needing = Object.entries(lock.packages).filter(([path, { dev, hasInstallScript }]) => {
      return path !== '' && hasInstallScript && !dev
    })
    assert.deepEqual(needing, [])
  })

  test('runs as a number that is not root, so that Kubernetes can check it', () => {
    assert.match(config.user ?? '', /^[1-9]\d*:[1-9]\d*$/)
  })

  test('runs walrx without a shell, so that signals reach it, and receives by default', () => {
    assert.deepEqual(config.entrypoint, ['walrx'])
    assert.deepEqual(config.command, ['wal-receive'])
    assert.ok((config.command[0] ?? '') in commands)
  })

  test('sets only variables that walrx or Node knows', () => {
    const known = [...knownNames(), 'NODE_ENV']
    for (const name of Object.keys(config.env)) assert.ok(known.includes(name), name)
  })

  test('has its health checked within a limit of time', () => {
    assert.deepEqual(config.healthCheck?.command, ['node', '/app/healthcheck.ts'])
    assert.ok((config.healthCheck?.timesMs['timeout'] ?? Infinity) < (config.healthCheck?.timesMs['interval'] ?? 0))
  })
})

describe('our reader of Dockerfiles', () => {
  test('joins lines and leaves out comments, also between them', () => {
    assert.deepEqual(readInstructions('# no\nRUN a \\\n  # neither\n  && b \\( c\n\nCMD ["x"]\n'), [
      { keyword: 'RUN', text: 'a   && b \\( c' },
      { keyword: 'CMD', text: '["x"]' },
    ])
  })

  test('keeps the config of the last stage only', () => {
    const { config, stages } = readDockerfile('FROM a:1 AS b\nUSER root\nENV A=1\nFROM c:2\nWORKDIR /d\nENV B=2=3 C=4')
    assert.deepEqual(
      stages.map(({ base, name }) => [base, name]),
      [
        ['a:1', 'b'],
        ['c:2', undefined],
      ],
    )
    assert.deepEqual([config.user, config.workdir, config.env], [undefined, '/d', { B: '2=3', C: '4' }])
  })

  test('refuses what it does not understand', () => {
    for (const line of ['VOLUME /x', 'COPY --chown=a b c', 'COPY a', 'ENV A="b"', 'CMD walrx', 'run x']) {
      assert.throws(() => readDockerfile(`FROM a:1\n${line}`), line)
    }
  })
})
