/** SIGTERM and SIGINT as two abort signals: the first asks to finish, the second to drop everything. */
import type { EventEmitter } from 'node:events'
import { constants } from 'node:os'
import type { StopSignals } from './command.ts'

/** Signals that are being listened to. */
export interface WatchedSignals extends StopSignals, Disposable {
  /** The first signal that came, or undefined. */
  readonly received: NodeJS.Signals | undefined
}

/**
 * Listens for SIGTERM and SIGINT until disposed of.
 * @param source emits signals by name: the process
 * @param exit called at the third signal, with its name, when even dropping everything takes too long
 */
export function watchSignals(source: EventEmitter, exit: (name: NodeJS.Signals) => void): WatchedSignals {
  const drain = new AbortController()
  const now = new AbortController()
  let received: NodeJS.Signals | undefined
  const onSignal = (name: NodeJS.Signals) => {
    if (now.signal.aborted) exit(name)
    else if (drain.signal.aborted) now.abort()
    else drain.abort()
    received ??= name
  }
  source.on('SIGTERM', onSignal)
  source.on('SIGINT', onSignal)
  return {
    drain: drain.signal,
    now: now.signal,
    onHangup: (listener) => {
      source.on('SIGHUP', listener)
      return () => void source.off('SIGHUP', listener)
    },
    get received() {
      return received
    },
    [Symbol.dispose]() {
      source.off('SIGTERM', onSignal)
      source.off('SIGINT', onSignal)
    },
  }
}

/** The exit status that a shell gives a process ended by this signal: 143 for SIGTERM. */
export function signalStatus(name: NodeJS.Signals): number {
  return 128 + constants.signals[name]
}
