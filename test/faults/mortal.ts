/** What a receiver gets to talk to: from the moment in which it is killed on nothing of it answers any more. */
import { type WalrxError, toWalrxError } from '../../src/primitives/errors.ts'
import { combineFailures } from '../../src/postgres/protocol/connect-error.ts'
import type { ByteSocket, ReplicationServer, ReplicationSession } from '../../src/postgres/protocol/session.ts'
import type { FakeHost } from './fake-host.ts'

/** The same object, but its promises never settle any more once `isAlive` says no. */
export function mortalCopy<T extends object>(target: T, isAlive: () => boolean): T {
  return new Proxy(target, {
    get: (object, property) => {
      const value: unknown = Reflect.get(object, property, object)
      if (typeof value !== 'function') return value
      return (...args: unknown[]): unknown => {
        const result: unknown = isAlive() ? Reflect.apply(value, object, args) : new Promise(() => {})
        if (!(result instanceof Promise)) return result
        return new Promise((resolve, reject) => {
          result.then(
            (outcome) => isAlive() && resolve(outcome),
            (error: unknown) => isAlive() && reject(error as Error),
          )
        })
      }
    },
  })
}

/** Hosts that are tried one after the other, as PgServer does. */
export function mortalServer(hosts: () => readonly FakeHost[], isAlive: () => boolean): ReplicationServer {
  return {
    connect: async (signal, judge) => {
      const failures: WalrxError[] = []
      for (const host of hosts()) {
        try {
          const session = await mortalCopy(host, isAlive).connect(signal)
          const mortal = mortalCopy<ReplicationSession>(
            { ...session, takeOver: () => mortalSocket(session.takeOver(), isAlive) },
            isAlive,
          )
          await judge?.(mortal)
          return mortal
        } catch (error) {
          signal?.throwIfAborted()
          failures.push(toWalrxError(error))
        }
      }
      throw combineFailures(failures, 'no host can be used')
    },
  }
}

function mortalSocket(socket: ByteSocket, isAlive: () => boolean): ByteSocket {
  return {
    start: (handlers) =>
      socket.start({
        onBytes: (chunk) => isAlive() && handlers.onBytes(chunk),
        onClose: (error) => isAlive() && handlers.onClose(error),
      }),
    write: (bytes) => isAlive() && socket.write(bytes),
    pause: () => isAlive() && socket.pause(),
    resume: () => isAlive() && socket.resume(),
    destroy: () => socket.destroy(),
  }
}
