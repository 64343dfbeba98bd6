/** Reads a Dockerfile: the instructions that ours uses, in the forms that it uses. Anything else is an error. */
import { parseDurationMs } from '../../src/config/options/option-values.ts'

/** One line of a Dockerfile, continuations joined. */
export interface Instruction {
  readonly keyword: string
  readonly text: string
}

/** A `COPY`. */
export interface CopyStep {
  /** Name of a stage; undefined for the build context. */
  readonly from: string | undefined
  readonly sources: readonly string[]
  readonly destination: string
}

/** What happens while an image is built. */
export type BuildStep =
  | { readonly kind: 'workdir'; readonly path: string }
  | ({ readonly kind: 'copy' } & CopyStep)
  | { readonly kind: 'run'; readonly command: string }

/** From one `FROM` to the next. */
export interface Stage {
  readonly base: string
  readonly name: string | undefined
  readonly steps: BuildStep[]
}

/** A check of a container's health. */
export interface HealthCheck {
  readonly command: readonly string[]
  /** `interval`, `timeout` and so on in milliseconds. */
  readonly timesMs: Readonly<Record<string, number>>
}

/** What the image says of its containers. */
export interface ImageConfig {
  readonly env: Record<string, string>
  user: string | undefined
  workdir: string
  entrypoint: readonly string[]
  command: readonly string[]
  healthCheck: HealthCheck | undefined
}

/** A Dockerfile: its stages in order, and the config of the last one. */
export interface Dockerfile {
  readonly stages: readonly Stage[]
  readonly config: ImageConfig
}

/** Splits a text into instructions. A line that ends with a backslash goes on; comments may stand in between. */
export function readInstructions(text: string): Instruction[] {
  const lines = text.split('\n').filter((line) => !/^\s*(#|$)/.test(line))
  const joined = lines.join('\n').replaceAll(/\\[ \t]*\n/g, '')
  return joined.split('\n').map((line) => {
    const [, keyword = '', rest = ''] = /^\s*([A-Z]+)\s+(.*)$/.exec(line) ?? []
    if (!keyword) throw new Error(`no instruction: ${line}`)
    return { keyword, text: rest.trim() }
  })
}

/** @throws Error for an instruction, or a form of one, that it doesn't know */
export function readDockerfile(text: string): Dockerfile {
  const stages: Stage[] = []
  let config = newConfig()
  for (const instruction of readInstructions(text)) {
    if (instruction.keyword === 'FROM') {
      stages.push(readFrom(instruction.text))
      config = newConfig()
      continue
    }
    const stage = stages.at(-1)
    if (!stage) throw new Error(`${instruction.keyword} before FROM`)
    const step = readStep(instruction)
    if (step) stage.steps.push(step)
    if (step?.kind === 'workdir') config.workdir = step.path
    if (!step) configure(config, instruction)
  }
  return { stages, config }
}

function newConfig(): ImageConfig {
  return { env: {}, user: undefined, workdir: '/', entrypoint: [], command: [], healthCheck: undefined }
}

function readFrom(text: string): Stage {
  const match = /^(\S+)(?: AS (\S+))?$/.exec(text)
  if (!match?.[1]) throw new Error(`unknown form: FROM ${text}`)
  return { base: match[1], name: match[2], steps: [] }
}

/** Undefined for what doesn't change files. */
function readStep({ keyword, text }: Instruction): BuildStep | undefined {
  if (keyword === 'WORKDIR') return { kind: 'workdir', path: text }
  if (keyword === 'RUN') return { kind: 'run', command: text }
  if (keyword !== 'COPY') return undefined
  const [, from, paths = ''] = /^(?:--from=(\S+)\s+)?([^-[].*)$/.exec(text) ?? []
  const sources = paths.split(/\s+/)
  const destination = sources.pop()
  if (destination === undefined || sources.length === 0) throw new Error(`unknown form: COPY ${text}`)
  return { kind: 'copy', from, sources, destination }
}

function configure(config: ImageConfig, { keyword, text }: Instruction): void {
  switch (keyword) {
    case 'ENV':
      if (/["'\\$]/.test(text)) throw new Error(`unknown form: ENV ${text}`)
      Object.assign(config.env, Object.fromEntries(text.split(/\s+/).map((pair) => pair.split(/=(.*)/s, 2))))
      return
    case 'USER':
      config.user = text
      return
    case 'ENTRYPOINT':
      config.entrypoint = execForm(text)
      return
    case 'CMD':
      config.command = execForm(text)
      return
    case 'HEALTHCHECK':
      config.healthCheck = readHealthCheck(text)
      return
    case 'EXPOSE':
      return
    default:
      throw new Error(`unknown instruction ${keyword}`)
  }
}

/** The form without a shell: a JSON array. */
function execForm(text: string): string[] {
  return JSON.parse(text) as string[]
}

function readHealthCheck(text: string): HealthCheck {
  const [options = '', command = ''] = text.split(/\bCMD\s+(.*)/s, 2)
  const timesMs = [...options.matchAll(/--([a-z-]+)=(\S+)/g)].map(
    ([, name = '', value = '']) => [name, parseDurationMs(value) ?? NaN] as const,
  )
  return { command: execForm(command), timesMs: Object.fromEntries(timesMs) }
}
