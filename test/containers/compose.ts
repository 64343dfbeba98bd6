/** The compose file and the Dockerfile, as the tests of this folder read them. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse } from 'yaml'
import { repository } from '../lint/source-files.ts'
import { type Dockerfile, readDockerfile } from './dockerfile.ts'

/** One service, as far as ours go. */
export interface Service {
  readonly image: string
  readonly build?: { readonly context: string; readonly dockerfile: string }
  readonly command?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly volumes?: readonly string[]
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: readonly string[] }
  readonly restart?: string
  readonly stop_grace_period?: string
  readonly ports?: readonly string[]
}

/** A compose file. */
export interface Compose {
  readonly name: string
  readonly services: Readonly<Record<string, Service>>
  readonly volumes: Readonly<Record<string, unknown>>
}

/** The folder of the compose file: relative paths in it start here. */
export const composeFolder = join(repository, 'compose')

/** Text of the compose file. */
export const composeText = readFileSync(join(composeFolder, 'compose.yaml'), 'utf8')

/** The compose file, anchors resolved. */
export const compose = parse(composeText, { merge: true }) as Compose

/** The Dockerfile. */
export const dockerfile: Dockerfile = readDockerfile(readFileSync(join(repository, 'docker', 'Dockerfile'), 'utf8'))

/** A service that must be there. */
export function service(name: string): Service {
  const found = compose.services[name]
  if (!found) throw new Error(`no service ${name}`)
  return found
}

/** True for a service that runs our own image. */
export function isOurs({ image }: Service): boolean {
  return image === service('walrx').image
}

/** The arguments of walrx that a service of ours runs: its own command, else the image's. */
export function walrxArguments(ours: Service): readonly string[] {
  return ours.command ?? dockerfile.config.command
}
