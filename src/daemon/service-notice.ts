/**
 * What systemd is notified of, where it wants that (sd_notify(3)): that the daemon is ready, that it lives, that it stops.
 * Node opens no datagram sockets of this kind, so systemd's own systemd-notify sends it, and the unit needs
 * NotifyAccess=all: that process is not the daemon's main one.
 */
import { spawn } from 'node:child_process'
import type { Logger } from '../observe/log.ts'
import type { Clock, Timer } from '../primitives/clock.ts'

/** What {@link ServiceNotice} needs. */
export interface ServiceNoticeOptions {
  /** Variables of the process: NOTIFY_SOCKET, WATCHDOG_USEC. */
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly clock: Clock
  readonly log: Logger
}

/** WAL-G's interval (daemon_handler.go), where systemd asks for none. */
const aliveDefaultMs = 30_000

/** See the file's header. */
export class ServiceNotice {
  readonly #options: ServiceNoticeOptions
  #timer: Timer | undefined
  #hasFailed = false

  constructor(options: ServiceNoticeOptions) {
    this.#options = options
  }

  /** The daemon is ready, and from now on shows that it lives. Also after {@link reloading}. */
  ready(): void {
    this.#send('READY=1')
    this.#timer?.cancel()
    this.#later()
  }

  /** Settings are read again. The time makes it one of Type=notify-reload. */
  reloading(): void {
    this.#send('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`)
  }

  /** The daemon is about to end. */
  stopping(): void {
    this.#timer?.cancel()
    this.#send('STOPPING=1')
  }

  #later(): void {
    const { clock, environment } = this.#options
    if (!environment['NOTIFY_SOCKET']) return
    const watchdogMs = Number(environment['WATCHDOG_USEC'] ?? 0) / 1000
    this.#timer = clock.setTimer(watchdogMs > 0 ? watchdogMs / 2 : aliveDefaultMs, () => {
      this.#send('WATCHDOG=1')
      this.#later()
    })
  }

  #send(...state: readonly string[]): void {
    const { environment, log } = this.#options
    if (!environment['NOTIFY_SOCKET'] || this.#hasFailed) return
    const child = spawn('systemd-notify', state, { env: environment, stdio: 'ignore' })
    child.on('error', (error) => {
      this.#hasFailed = true
      log.warn('systemd cannot be notified: systemd-notify does not run', { error: error.message })
    })
    child.on('exit', (code) => {
      if (code !== 0 && code !== null) log.debug('systemd-notify has failed', { state: state.join(' '), status: code })
    })
  }
}
