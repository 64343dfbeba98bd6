/** A process as a container of the image would run it: its command, user, directory and variables, and nothing else. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { below, type Image } from './image-build.ts'

/** How a container ended. */
export interface ContainerEnd {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** A running container. */
export class Container implements AsyncDisposable {
  readonly child: ChildProcess
  readonly ended: Promise<ContainerEnd>

  /** @param command the whole of it, paths as in the image */
  constructor(image: Image, command: readonly string[], env: Readonly<Record<string, string>>) {
    const [program = '', ...args] = command.map((word) => below(image.root, word))
    this.child = spawn(program, args, {
      ...image.identity,
      cwd: join(image.root, image.config.workdir),
      env: { ...image.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    this.child.stdout?.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
    this.child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
    this.ended = once(this.child, 'close').then(([status]) => ({ status: status as number | null, stdout, stderr }))
  }

  /** As `docker stop` does: SIGTERM, and after the time of grace SIGKILL. */
  async stop(graceMs: number): Promise<ContainerEnd> {
    const timer = setTimeout(() => this.child.kill('SIGKILL'), graceMs)
    this.child.kill('SIGTERM')
    const end = await this.ended
    clearTimeout(timer)
    return end
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL')
    await this.ended
  }
}
