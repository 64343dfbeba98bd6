/**
 * The compose file: by a parser of the compose specification, where there is one (`docker-compose` on PATH, the
 * program that COMPOSE_BIN names, or `docker compose`; none of them needs an engine for this), and by what no parser
 * can know.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, test } from 'node:test'
import { commands } from '../../src/cli/command-loaders.ts'
import { optionsOf } from '../../src/config/load.ts'
import type { CommandName } from '../../src/config/options/option-types.ts'
import { parseDurationMs } from '../../src/config/options/option-values.ts'
import { optionTable } from '../../src/config/options/options.ts'
import { optionNames } from '../../src/config/setting-names.ts'
import { compose, composeFolder, composeText, dockerfile, isOurs, service, walrxArguments } from './compose.ts'

const services = Object.entries(compose.services)
const ours = services.filter(([, each]) => isOurs(each))

/** Variables that the images of others know, as far as somebody might want them here. */
const imageVariables: Readonly<Record<string, readonly string[]>> = {
  postgres: ['POSTGRES_PASSWORD', 'POSTGRES_USER', 'POSTGRES_DB', 'POSTGRES_INITDB_ARGS', 'PGDATA'],
  'versity/versitygw': ['ROOT_ACCESS_KEY', 'ROOT_SECRET_KEY', 'VGW_HEALTH', 'VGW_PORT'],
}

/** `[name, tag]` of an image. */
const nameAndTag = (image: string) => image.split(/:(?=[^/]*$)/, 2)

describe('a parser of the compose specification', () => {
  const parser = findParser()
  const skip = parser ? false : 'no docker-compose and no docker compose; COMPOSE_BIN may name one'
  const check = (text: string) => {
    const [program = '', ...args] = parser?.command ?? []
    return spawnSync(program, [...args, '--project-directory', composeFolder, '--file', '-', 'config', '--quiet'], {
      // The first version resolves relative paths by the working directory.
      cwd: composeFolder,
      input: parser?.isFirst ? text.replace(/^name: .*$/m, '') : text,
      encoding: 'utf8',
    })
  }

  test('accepts the file', { skip }, () => {
    const { status, stderr } = check(composeText)
    assert.equal(status, 0, stderr)
  })

  test('sees a word that is none, and a volume that nobody declares', { skip }, () => {
    for (const [right, wrong] of [
      ['depends_on:', 'depend_on:'],
      ['- store:/data', '- stores:/data'],
    ] as const) {
      assert.ok(composeText.includes(right))
      assert.notEqual(check(composeText.replace(right, wrong)).status, 0, wrong)
    }
  })
})

/** `isFirst` for version 1, which is older than `name` at the top of a file. */
function findParser(): { readonly command: readonly string[]; readonly isFirst: boolean } | undefined {
  const named = process.env['COMPOSE_BIN']
  const candidates = named ? [[named]] : [['docker-compose'], ['docker', 'compose']]
  for (const command of candidates) {
    const [program = '', ...args] = command
    const { status, stdout } = spawnSync(program, [...args, 'version', '--short'], { encoding: 'utf8' })
    if (status === 0) return { command, isFirst: /^v?1\./.test(stdout) }
  }
  return undefined
}

describe('every service', () => {
  test('runs an image with a tag, and not the one that moves', () => {
    for (const [name, { image }] of services) {
      const [, tag] = nameAndTag(image)
      assert.ok(tag !== undefined && tag !== 'latest', `${name}: ${image}`)
    }
  })

  test('has its variables written out: the file needs nothing from the outside', () => {
    assert.ok(!composeText.includes('$'))
  })

  test('starts after services that there are, and waits for the health of those that report it', () => {
    for (const [name, { depends_on: others = {} }] of services) {
      for (const [other, { condition }] of Object.entries(others)) {
        assert.ok(compose.services[other], `${name} depends on ${other}`)
        const canTell = service(other).healthcheck ?? (isOurs(service(other)) && dockerfile.config.healthCheck)
        assert.equal(condition, canTell ? 'service_healthy' : 'service_started', `${name} on ${other}`)
      }
    }
  })

  test('mounts what is declared or lies beside the file, and nothing is declared in vain', () => {
    const sources = services.flatMap(([, { volumes = [] }]) => volumes.map((volume) => volume.split(':')[0] ?? ''))
    for (const source of sources.filter((path) => path.startsWith('.'))) {
      assert.ok(existsSync(join(composeFolder, source)), source)
    }
    const named = sources.filter((source) => !source.startsWith('.'))
    assert.deepEqual(named.sort(), Object.keys(compose.volumes).sort())
  })

  test('is published to this machine only', () => {
    for (const [name, { ports = [] }] of services) {
      for (const port of ports) assert.match(port, /^127\.0\.0\.1:\d+:\d+$/, name)
    }
  })

  test('that is not ours has only variables that its image knows', () => {
    for (const [name, { image, environment = {} }] of services.filter(([, each]) => !isOurs(each))) {
      const known = imageVariables[nameAndTag(image)[0] ?? '']
      assert.ok(known, `nobody knows the variables of ${image}`)
      for (const variable of Object.keys(environment)) assert.ok(known.includes(variable), `${name}: ${variable}`)
    }
  })
})

describe('every service of ours', () => {
  test('runs a command of walrx with options that it takes', () => {
    assert.deepEqual(ours.map(([, each]) => walrxArguments(each)[0]).sort(), ['backup-push', 'wal-receive'])
    for (const [name, each] of ours) {
      const [command = '', ...rest] = walrxArguments(each)
      assert.ok(command in commands, `${name}: ${command}`)
      const flags = optionsOf(command as CommandName).map(([, { flag }]) => `--${flag}`)
      for (const argument of rest) assert.ok(flags.includes(argument.split('=')[0] ?? ''), `${name}: ${argument}`)
    }
  })

  test('has only variables that its command reads', () => {
    for (const [name, each] of ours) {
      const rows = optionsOf((walrxArguments(each)[0] ?? '') as CommandName)
      const known = rows.flatMap(([, { env }]) => optionNames(env))
      for (const variable of Object.keys(each.environment ?? {})) {
        assert.ok(known.includes(variable), `${name}: ${variable}`)
      }
    }
  })

  test('is built here, by one service', () => {
    const builders = ours.filter(([, { build }]) => build)
    assert.deepEqual(
      builders.map(([name]) => name),
      ['walrx'],
    )
    const { context = '', dockerfile: file = '' } = service('walrx').build ?? {}
    assert.ok(existsSync(join(composeFolder, context, file)))
    assert.ok(existsSync(join(composeFolder, context, 'package.json')))
  })

  test('finds the server and the store by their names, with their keys and a bucket that is made', () => {
    for (const [, { environment = {} }] of ours) {
      const { hostname, port } = new URL(environment['AWS_ENDPOINT'] ?? '')
      const store = service(hostname)
      assert.ok(store.healthcheck?.test.at(-1)?.startsWith(`http://127.0.0.1:${port}/`), 'the store listens elsewhere')
      assert.equal(environment['AWS_ACCESS_KEY_ID'], store.environment?.['ROOT_ACCESS_KEY'])
      assert.equal(environment['AWS_SECRET_ACCESS_KEY'], store.environment?.['ROOT_SECRET_KEY'])
      const bucket = new URL(environment['WALG_S3_PREFIX'] ?? '').hostname
      assert.ok(store.entrypoint?.at(-1)?.startsWith(`mkdir -p /data/${bucket} && `), bucket)
      assert.match(service(environment['PGHOST'] ?? '').image, /^postgres:/)
    }
  })
})

test('the receiver may take longer to stop than it takes to drain', () => {
  const grace = parseDurationMs(service('walrx').stop_grace_period ?? '')
  assert.ok((grace ?? 0) > (parseDurationMs(optionTable.drainTimeoutMs.default) ?? Infinity))
})

test('the backup is taken once at a start, after the receiver, which is there again after a crash', () => {
  assert.equal(service('backup').restart, 'no')
  assert.deepEqual(service('backup').depends_on, { walrx: { condition: 'service_healthy' } })
  assert.equal(service('walrx').restart, 'unless-stopped')
})

test("the receiver's status page is published where the image has it", () => {
  const [, port] = /:(\d+)$/.exec(dockerfile.config.env['WALRX_STATUS_LISTEN'] ?? '') ?? []
  assert.deepEqual(service('walrx').ports, [`127.0.0.1:${port}:${port}`])
})

test('the server has data checksums', () => {
  assert.equal(service('postgres').environment?.['POSTGRES_INITDB_ARGS'], '--data-checksums')
})

test('the scripts for the new server are programs', () => {
  const mounts = (service('postgres').volumes ?? []).map((volume) => volume.split(':'))
  const [folder = ''] = mounts.find(([, target]) => target === '/docker-entrypoint-initdb.d') ?? []
  const scripts = readdirSync(join(composeFolder, folder))
  assert.notEqual(scripts.length, 0)
  for (const script of scripts) {
    const path = join(composeFolder, folder, script)
    accessSync(path, constants.X_OK)
    assert.match(readFileSync(path, 'utf8'), /^#!\/bin\/sh\n/)
  }
})
