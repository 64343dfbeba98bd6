/** Entries of a part as a rewriter appends them, and parts taken apart again. */
import assert from 'node:assert/strict'
import { crc32c } from '@node-rs/crc32'
import type { FinishedPart } from '../../../src/backup/parts/part-lane.ts'
import { formatHeader, paddingOf, tarTrailer } from '../../../src/backup/parts/tar-header.ts'
import type { EntryPlacer, EntryTarget } from '../../../src/backup/parts/entry-target.ts'
import type { WriteCodec } from '../../../src/compression/codec.ts'
import { ZstdFrameScanner } from '../../../src/compression/zstd/zstd-frame.ts'
import type { MemoryStorage } from '../../harness/store/memory-storage.ts'
import { listTar, readTar } from './tars.ts'

/** A file, or a directory where it has no content. */
export interface Entry {
  readonly name: string
  readonly content: Buffer | undefined
}

/** Bytes of the whole entry. */
export function entryBytes(entry: Entry): Buffer {
  const { content = Buffer.alloc(0), name } = entry
  const kind = entry.content ? 'file' : 'directory'
  const header = formatHeader({ name, kind, size: content.length, mode: 0o600, mtime: 1_700_000_000 })
  return Buffer.concat([header, content, Buffer.alloc(paddingOf(content.length))])
}

/** Appends `bytes` in pieces, from memory that is used again at once. */
export async function append(target: EntryTarget, bytes: Buffer, pieceBytes: number): Promise<void> {
  const memory = Buffer.alloc(Math.min(pieceBytes, bytes.length))
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const length = bytes.copy(memory, 0, at)
    await target.append(memory.subarray(0, length))
    memory.fill(0xdd)
  }
}

/** Places and appends an entry. */
export async function write(placer: EntryPlacer, entry: Entry, pieceBytes = 64 * 1024): Promise<void> {
  const bytes = entryBytes(entry)
  const target = await placer.place(entry.content && entry.name, bytes.length)
  await append(target, bytes, pieceBytes)
}

/** Reads a part, which must be exactly one frame. */
async function decodePart(codec: WriteCodec, stored: Buffer): Promise<Buffer> {
  if (codec.method === 'zstd') {
    const scanner = new ZstdFrameScanner()
    assert.equal(scanner.scan(stored), stored.length, 'something follows the frame')
    assert.ok(scanner.isComplete && !scanner.isSkippable)
  }
  const decoder = codec.decoder()
  decoder.end(stored)
  const pieces: Buffer[] = []
  for await (const piece of decoder) pieces.push(Buffer.from(piece as Uint8Array))
  return Buffer.concat(pieces)
}

/**
 * Checks all that is promised of parts, and that they are all that is stored.
 * @returns the entries of each
 */
export async function readParts(
  storage: MemoryStorage,
  codec: WriteCodec,
  folder: string,
  parts: readonly FinishedPart[],
  partBytesMax: number,
): Promise<Entry[][]> {
  const keys = parts.map(({ name }) => folder + name).sort()
  assert.deepEqual([...storage.objects.keys()].sort(), keys)
  const extension = codec.extension === '' ? '' : `.${codec.extension}`
  const numbers = parts.map((_, index) => `part_${String(index + 1).padStart(3, '0')}.tar${extension}`)
  assert.deepEqual(parts.map(({ fileName }) => fileName).sort(), numbers, 'a number is missing or twice')
  const read: Entry[][] = []
  for (const part of parts) {
    assert.equal(part.name, `tar_partitions/${part.fileName}`)
    const stored = storage.peek(folder + part.name) ?? Buffer.alloc(0)
    assert.deepEqual([part.size, part.crc32c], [stored.length, crc32c(stored)])
    const tar = await decodePart(codec, stored)
    assert.equal(tar.length, part.tarBytes)
    assert.ok(tar.subarray(-tarTrailer.length).equals(tarTrailer))
    const entries = (await readTar(tar)).map(({ content, name, type }): Entry => {
      return { name, content: type === 'directory' ? undefined : content }
    })
    assert.deepEqual(
      listTar(tar).map(({ name }) => name),
      entries.map(({ name }) => name),
    )
    // Nothing but these entries and the end.
    assert.equal(
      tar.length,
      entries.reduce((sum, each) => sum + entryBytes(each).length, tarTrailer.length),
    )
    assert.ok(tar.length <= partBytesMax || entries.length === 1, `${tar.length} bytes of ${entries.length} entries`)
    assert.deepEqual(
      part.files,
      entries.flatMap(({ content, name }) => (content ? [name] : [])),
    )
    read.push(entries)
  }
  return read
}
