/** The thread of a comparison: reads files and compares their checksums. It gets paths and sends verdicts, no content. */
import fs from 'node:fs'
import { parentPort } from 'node:worker_threads'
import { openChecksum } from '../parts/checksums.ts'
import type { AskedFile, FromComparer, ToComparer, Verdict } from './file-compare.ts'

/** Bytes that are read at once. */
const chunk = Buffer.allocUnsafeSlow(1024 * 1024)
/** How often the bytes that were read are reported within a file. */
const reportBytes = 64 * 1024 * 1024

const port = parentPort

function send(message: FromComparer): void {
  port?.postMessage(message)
}

/** Reports bytes as they come, and not each of many small files. */
let unreported = 0

function note(bytes: number): void {
  unreported += bytes
  if (unreported < reportBytes) return
  send({ kind: 'read', bytes: unreported })
  unreported = 0
}

function compare(file: AskedFile, isSynced: boolean): Verdict {
  try {
    const { O_NOFOLLOW, O_RDONLY } = fs.constants
    const descriptor = fs.openSync(file.full, O_RDONLY | O_NOFOLLOW)
    try {
      return isSame(descriptor, file, isSynced) ? { path: file.path, isSame: true } : { path: file.path, isSame: false }
    } finally {
      fs.closeSync(descriptor)
    }
  } catch (error) {
    return { path: file.path, isSame: false, problem: (error as NodeJS.ErrnoException).message }
  }
}

function isSame(descriptor: number, { algorithm, checksum, size }: AskedFile, isSynced: boolean): boolean {
  const stat = fs.fstatSync(descriptor)
  if (!stat.isFile() || stat.size !== size) return false
  const sum = openChecksum(algorithm, 'the manifest')
  let bytes = 0
  for (;;) {
    const count = fs.readSync(descriptor, chunk, 0, chunk.length, bytes)
    if (count === 0) break
    sum.update(chunk.subarray(0, count))
    bytes += count
    note(count)
  }
  if (bytes !== size || sum.digest() !== checksum) return false
  // What was read may be in memory only: a restore that was killed before has written it.
  if (isSynced) fs.fsyncSync(descriptor)
  return true
}

port?.on('message', ({ files, isSynced }: ToComparer) => {
  const verdicts = files.map((file) => compare(file, isSynced))
  send({ kind: 'compared', verdicts, bytes: unreported })
  unreported = 0
})
