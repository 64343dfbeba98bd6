/**
 * Benches of encryption with libsodium: the key that all contenders get, walrx beside itself without one, and what libsodium
 * itself takes for the same bytes.
 */
import { randomFillSync } from 'node:crypto'
import { createRequire } from 'node:module'
import type { BackupContender } from './backup-contenders.ts'
import type { Contender, Launch } from './contenders.ts'
import { markdownTable } from './markdown.ts'
import { median } from './statistics.ts'

/** The name of walrx without a key, in a bench of encryption. */
export const plainName = 'walrx-plain'

const key = Buffer.from('6a0d9c1f52e84b7730bb41f6d2c995ae08e37f64a1d25c9b8e40f7136dca2b85', 'hex')

function withKeyIn(launch: Launch): Launch {
  const variables = { WALG_LIBSODIUM_KEY: key.toString('hex'), WALG_LIBSODIUM_KEY_TRANSFORM: 'hex' }
  return { ...launch, environment: { ...launch.environment, ...variables } }
}

/** The same contender with the key. */
export function withKey(contender: Contender): Contender {
  return { ...contender, isEncrypted: true, launch: async (task) => withKeyIn(await contender.launch(task)) }
}

/** The same contender with the key. */
export function withBackupKey(contender: BackupContender): BackupContender {
  const { restore } = contender
  return {
    ...contender,
    backup: async (task) => withKeyIn(await contender.backup(task)),
    ...(restore && { restore: async (task, destination) => withKeyIn(await restore(task, destination)) }),
  }
}

interface Sodium {
  readonly crypto_secretstream_xchacha20poly1305_STATEBYTES: number
  crypto_secretstream_xchacha20poly1305_init_push(state: Buffer, header: Buffer, key: Buffer): void
  crypto_secretstream_xchacha20poly1305_push(
    state: Buffer,
    chunk: Buffer,
    content: Buffer,
    extra: null,
    tag: number,
  ): number
  crypto_secretstream_xchacha20poly1305_init_pull(state: Buffer, header: Buffer, key: Buffer): void
  crypto_secretstream_xchacha20poly1305_pull(
    state: Buffer,
    content: Buffer,
    tag: Buffer,
    chunk: Buffer,
    extra: null,
  ): number
}

const sodium = createRequire(import.meta.url)('sodium-native') as Sodium
const stateBytes = sodium.crypto_secretstream_xchacha20poly1305_STATEBYTES
const headerBytes = 24
const contentBytes = 8192
const chunkBytes = contentBytes + 17

/** The content of an encrypted object. Throws for one that is not whole. */
export function decryptObject(object: Buffer): Buffer {
  const state = Buffer.alloc(stateBytes)
  const tag = Buffer.alloc(1)
  sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, object.subarray(0, headerBytes), key)
  const contents: Buffer[] = []
  for (let at = headerBytes; at < object.length; at += chunkBytes) {
    const chunk = object.subarray(at, at + chunkBytes)
    const content = Buffer.alloc(chunk.length - 17)
    sodium.crypto_secretstream_xchacha20poly1305_pull(state, content, tag, chunk, null)
    contents.push(content)
  }
  if (tag[0] !== 3) throw new Error('an encrypted object is cut')
  return Buffer.concat(contents)
}

/** Chunks that lie in memory, as many as a segment has: caches do not hold them. */
const chunksInMemory = 2048

/** A measurement is repeated, and the median taken. */
const repeats = 3

/**
 * CPU seconds that libsodium takes for so many bytes of content, in calls of 8192 bytes on one thread, in objects of 16 MB.
 * @param kind what is done with them
 */
export function sodiumSeconds(kind: 'encrypt' | 'decrypt', megabytes: number): number {
  const content = randomFillSync(Buffer.allocUnsafe(chunksInMemory * contentBytes))
  const chunks = Buffer.alloc(chunksInMemory * chunkBytes)
  const state = Buffer.alloc(stateBytes)
  const header = Buffer.alloc(headerBytes)
  const tag = Buffer.alloc(1)
  const push = (count: number) => {
    sodium.crypto_secretstream_xchacha20poly1305_init_push(state, header, key)
    for (let index = 0; index < count; index++) {
      const chunk = chunks.subarray(index * chunkBytes, (index + 1) * chunkBytes)
      const piece = content.subarray(index * contentBytes, (index + 1) * contentBytes)
      sodium.crypto_secretstream_xchacha20poly1305_push(state, chunk, piece, null, 0)
    }
  }
  const pull = (count: number) => {
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
    for (let index = 0; index < count; index++) {
      const chunk = chunks.subarray(index * chunkBytes, (index + 1) * chunkBytes)
      const piece = content.subarray(index * contentBytes, (index + 1) * contentBytes)
      sodium.crypto_secretstream_xchacha20poly1305_pull(state, piece, tag, chunk, null)
    }
  }
  push(chunksInMemory)
  const work = kind === 'encrypt' ? push : pull
  const times = Array.from({ length: repeats }, () => {
    const before = process.cpuUsage()
    for (let left = Math.ceil((megabytes * 1e6) / contentBytes); left > 0; left -= chunksInMemory) {
      work(Math.min(left, chunksInMemory))
    }
    const { system, user } = process.cpuUsage(before)
    return (system + user) / 1e6
  })
  return median(times)
}

/** What a run with or without a key came to. */
export interface CostOfRun {
  readonly cpuSecondsPerGb: number
  readonly rssMegabytes: number
  readonly storedMegabytes: number
}

/** What encryption added to walrx, by one codec. */
export interface AddedCost {
  readonly codec: string
  /** Medians of both, and of what lies between them in each round. */
  readonly plainCpuSeconds: number
  readonly encryptedCpuSeconds: number
  readonly addedCpuSeconds: number
  readonly addedRssMegabytes: number
  readonly storedMegabytes: number
  /** Of libsodium itself, for the stored bytes. */
  readonly sodiumCpuSeconds: number
}

/**
 * @param gigabytes that the figures of CPU are for
 * @returns undefined where there is no round with both
 */
export function addedCost(
  codec: string,
  kind: 'encrypt' | 'decrypt',
  gigabytes: number,
  plain: readonly CostOfRun[],
  encrypted: readonly CostOfRun[],
): AddedCost | undefined {
  const pairs = encrypted.flatMap((run, round) => {
    const other = plain[round]
    return other ? [[other, run] as const] : []
  })
  if (pairs.length === 0) return undefined
  const storedMegabytes = median(pairs.map(([, run]) => run.storedMegabytes))
  const seconds = (run: CostOfRun) => run.cpuSecondsPerGb * gigabytes
  return {
    codec,
    plainCpuSeconds: median(pairs.map(([other]) => seconds(other))),
    encryptedCpuSeconds: median(pairs.map(([, run]) => seconds(run))),
    addedCpuSeconds: median(pairs.map(([other, run]) => seconds(run) - seconds(other))),
    addedRssMegabytes: median(pairs.map(([other, run]) => run.rssMegabytes - other.rssMegabytes)),
    storedMegabytes,
    sodiumCpuSeconds: sodiumSeconds(kind, storedMegabytes),
  }
}

/** The costs as a part of a report, after a blank line. */
export function renderAddedCosts(costs: readonly AddedCost[]): string {
  const rows = costs.map((cost) => [
    cost.codec,
    cost.plainCpuSeconds.toFixed(2),
    cost.encryptedCpuSeconds.toFixed(2),
    cost.addedCpuSeconds.toFixed(2),
    cost.storedMegabytes.toFixed(0),
    cost.sodiumCpuSeconds.toFixed(2),
    `${(cost.addedCpuSeconds / cost.sodiumCpuSeconds).toFixed(2)} ×`,
    cost.addedRssMegabytes.toFixed(0),
  ])
  const heading = [
    '',
    'plain CPU-s',
    'encrypted CPU-s',
    'added',
    'stored MB',
    'libsodium CPU-s',
    'added / its own',
    'RSS added MB',
  ]
  return (
    `\nWhat encryption adds to walrx: medians, and of the differences in each round. ${plainName} is walrx without a key. ` +
    '"libsodium" is what the library itself takes for the stored bytes, in calls of 8192 bytes on one thread, measured ' +
    `in the same run.\n\n${markdownTable([heading, ...rows])}\n`
  )
}
