/**
 * Builds the image without an engine: the steps of the Dockerfile, done on this machine. Every stage is a directory that
 * stands for its root; a path that begins with `/` in an instruction means one below it. Of the base image only Node
 * and npm are needed, which are this machine's.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chown, cp, mkdir, stat } from 'node:fs/promises'
import { basename, delimiter, dirname, join } from 'node:path'
import type { BuildStep, CopyStep, Dockerfile, ImageConfig } from './dockerfile.ts'

/** The home of the base image's user. */
const home = '/home/node'

/** An image that was built. */
export interface Image {
  /** The directory that stands for `/`. */
  readonly root: string
  readonly config: ImageConfig
  /** Who its processes run as; empty where the tests are not root, and everything runs as their user. */
  readonly identity: { readonly uid?: number; readonly gid?: number }
  /** Variables of every container: those of the base image, and the image's own. */
  readonly env: Readonly<Record<string, string>>
}

/** Puts every absolute path of a text below `root`. */
export function below(root: string, text: string): string {
  return text.replaceAll(/(^|[\s"'=])\/(?=\w)/g, `$1${root}/`)
}

/**
 * Builds into `directory`, which must exist.
 * @param context the top of the checkout
 */
export async function buildImage({ config, stages }: Dockerfile, context: string, directory: string): Promise<Image> {
  const roots = new Map<string, string>()
  let root = directory
  const identity = identityOf(config)
  for (const [index, { name = String(index), steps }] of stages.entries()) {
    root = join(directory, name)
    roots.set(name, root)
    await mkdir(join(root, 'usr/local/bin'), { recursive: true })
    await mkdir(join(root, home), { recursive: true })
    if (identity.uid !== undefined) await chown(join(root, home), identity.uid, identity.gid ?? -1)
    await build(steps, root, (from) => (from === undefined ? context : roots.get(from)))
  }
  const path = [join(root, 'usr/local/bin'), dirname(process.execPath), '/usr/bin', '/bin'].join(delimiter)
  const env = Object.entries(config.env).map(([name, value]) => [name, below(root, value)])
  return { root, config, identity, env: { PATH: path, HOME: join(root, home), ...Object.fromEntries(env) } }
}

function identityOf({ user }: ImageConfig): Image['identity'] {
  if (process.getuid?.() !== 0) return {}
  const [uid = NaN, gid = NaN] = (user ?? '0:0').split(':').map(Number)
  return { uid, gid }
}

/** @param source the directory that stands for a stage, or for the build context */
async function build(
  steps: readonly BuildStep[],
  root: string,
  source: (from: string | undefined) => string | undefined,
): Promise<void> {
  let workdir = root
  for (const step of steps) {
    if (step.kind === 'workdir') {
      workdir = join(root, step.path)
      await mkdir(workdir, { recursive: true })
    } else if (step.kind === 'copy') {
      const from = source(step.from)
      if (from === undefined) throw new Error(`no stage ${step.from}`)
      await copy(step, from, step.destination.startsWith('/') ? root : workdir)
    } else {
      await runStep(below(root, step.command), workdir)
    }
  }
}

/** As Docker does it: of a directory the content, of a file the file, into a destination that ends with a slash. */
async function copy({ destination, sources }: CopyStep, from: string, to: string): Promise<void> {
  for (const source of sources) {
    const path = join(from, source)
    const isInto = destination.endsWith('/') && (await stat(path)).isFile()
    const target = join(to, destination, isInto ? basename(source) : '')
    await cp(path, target, { recursive: true, verbatimSymlinks: true })
  }
}

/** Variables that would lead npm into our own checkout, or change what it does. */
const misleading =
  /^(npm_(package|lifecycle|command|config_(local_prefix|prefix|global))|INIT_CWD|NODE_(ENV|OPTIONS|TEST))/

async function runStep(command: string, cwd: string): Promise<void> {
  const kept = Object.entries(process.env).filter(([name]) => !misleading.test(name))
  const child = spawn('/bin/sh', ['-c', command], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...Object.fromEntries(kept),
      PATH: [dirname(process.execPath), process.env['PATH']].join(delimiter),
      // What was downloaded for this lock file before need not be asked for again.
      npm_config_prefer_offline: 'true',
      npm_config_audit: 'false',
      npm_config_fund: 'false',
      npm_config_update_notifier: 'false',
    },
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const [status] = (await once(child, 'close')) as [number | null]
  if (status !== 0) throw new Error(`RUN ${command}\nended with ${status}:\n${output.slice(-4000)}`)
}
