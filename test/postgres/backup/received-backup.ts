/** What a base backup brought, compared with its own manifest. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { type Extract, extract } from 'tar-stream'
import type { RecordingSink } from './scripted-backup.ts'

/** A tar's entry as it must be in the manifest. */
export interface Entry {
  readonly name: string
  readonly type: string
  readonly size: number
  readonly sha256: string
  readonly linkName: string | undefined
}

/** In hexadecimal. */
export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}

/** What the tests read of a manifest; its checksums are SHA256. */
export interface Manifest {
  readonly Files: readonly { readonly Path: string; readonly Size: number; readonly Checksum: string }[]
  readonly 'WAL-Ranges': readonly unknown[]
}

/** The manifest that came. */
export function manifestOf(sink: RecordingSink): Manifest {
  return JSON.parse(Buffer.concat(sink.manifest).toString()) as Manifest
}

/** Compares all archives with the manifest, both ways; returns the files that are not in it. */
export async function assertManifest(sink: RecordingSink): Promise<Set<string>> {
  const found = new Map<string, Entry>()
  for (const { pieces, tablespace } of sink.archives) {
    const bytes = Buffer.concat(pieces)
    assert.equal(bytes.length % 512, 0)
    assert.ok(bytes.subarray(-1024).equals(Buffer.alloc(1024)), 'two closing blocks')
    const prefix = tablespace.oid === undefined ? '' : `pg_tblspc/${tablespace.oid}/`
    for (const entry of await readTar(pieces)) {
      if (entry.type !== 'file') continue
      assert.ok(!found.has(prefix + entry.name), `${entry.name} twice`)
      found.set(prefix + entry.name, entry)
    }
  }
  for (const { Checksum, Path, Size } of manifestOf(sink).Files) {
    const entry = found.get(Path)
    assert.ok(entry, `${Path} is missing`)
    assert.deepEqual({ size: entry.size, sha256: entry.sha256 }, { size: Size, sha256: Checksum }, Path)
    found.delete(Path)
  }
  return new Set(found.keys())
}

/** tar-stream's own kind of stream knows no `events.once`. */
async function drained(unpack: Extract): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  unpack.once('drain', () => resolve(undefined))
  await promise
}

/** The entries of a tar, bodies hashed. */
export async function readTar(pieces: readonly Buffer[]): Promise<Entry[]> {
  const entries: Entry[] = []
  const unpack = extract()
  const reading = (async () => {
    for await (const entry of unpack) {
      const hash = createHash('sha256')
      for await (const chunk of entry) hash.update(chunk as Buffer)
      const { linkname, name, size, type } = entry.header
      entries.push({
        name,
        type: type ?? '',
        size: size ?? 0,
        sha256: hash.digest('hex'),
        linkName: linkname ?? undefined,
      })
    }
  })()
  for (const piece of pieces) if (!unpack.write(piece)) await drained(unpack)
  unpack.end(undefined)
  await reading
  return entries
}
