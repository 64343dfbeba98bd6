/**
 * The files of databases that a restore leaves out: files of zeros that take no space. The recovery changes pages in them where
 * a record has the whole page, and passes over the others by ignore_invalid_pages (XLogReadBufferExtended in xlogutils.c).
 * A database that is left out cannot be connected to, and DROP DATABASE removes it.
 */
import * as fs from 'node:fs/promises'
import { join } from 'node:path'
import { type BackupDocuments, chainOf } from '../backup-documents.ts'
import type { DirectorySink } from '../restore-sink.ts'
import { serverDirectories } from '../server-directories.ts'

/** See the file's header. */
export class LeftOutFiles {
  readonly #oids: ReadonlySet<string>
  /** By path; bytes. Undefined where that is not known. */
  readonly #sizes = new Map<string, number | undefined>()

  /** @param oids of the databases */
  constructor(oids: Iterable<number>) {
    this.#oids = new Set([...oids].map(String))
  }

  /** True for the path of a file in a database that is left out. */
  has(path: string): boolean {
    const oid = /^(?:base|pg_tblspc\/\d+\/PG_[^/]+)\/(\d+)\//.exec(path)?.[1]
    return oid !== undefined && this.#oids.has(oid)
  }

  /** A file was seen in a part. @param size its bytes; undefined for an increment */
  note(path: string, size: number | undefined): void {
    this.#sizes.set(path, size ?? this.#sizes.get(path))
  }

  /**
   * Makes the files, and the directories that every server needs: they may be in parts that were not read.
   * @throws WALRX_RESTORE_FAILED
   */
  async make(sink: DirectorySink, documents: BackupDocuments): Promise<void> {
    const { mode: directoryMode } = await fs.stat(join(sink.root, 'global'))
    const versionFile = join(sink.root, 'PG_VERSION')
    const [{ mode }, version] = [await fs.stat(versionFile), await fs.readFile(versionFile)]
    for (const path of serverDirectories(Number.parseInt(String(version), 10))) {
      if (!(await exists(join(sink.root, path)))) await sink.directory(path, directoryMode & 0o7777)
    }
    this.#addListed(documents)
    for (const [path, size = 0] of this.#sizes) {
      const file = await sink.file(path, mode & 0o7777)
      // The server looks at it when it starts up a database.
      if (path.endsWith('/PG_VERSION')) await file.write(version)
      await file.finish()
      if (path.endsWith('/PG_VERSION') || size === 0) continue
      const zeros = await sink.change(path)
      await zeros.resize(size)
      await zeros.finish()
    }
  }

  /** Files of parts that were not read. */
  #addListed(documents: BackupDocuments): void {
    const chain = chainOf(documents)
    for (const { files } of chain) {
      for (const path of files?.keys() ?? []) if (this.has(path)) this.note(path, undefined)
    }
    if (documents.files === undefined) {
      for (const path of documents.manifest?.keys() ?? []) if (this.has(path)) this.note(path, undefined)
    }
    for (const [path, size] of this.#sizes) {
      const listed = chain.findLast(({ manifest }) => manifest?.has(path))?.manifest?.get(path)?.size
      this.#sizes.set(path, listed ?? size)
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return fs.stat(path).then(
    () => true,
    () => false,
  )
}
