/**
 * The framing of a base backup's archives and manifest in COPY OUTs (basebackup_copy.c of 15 and later, basebackup.c of
 * 14; protocol-replication in PostgreSQL's documentation).
 */
import type { WalrxError } from '../../primitives/errors.ts'
import type { Busy } from '../protocol/copy-reader.ts'
import type { BackupTablespace, BaseBackupSink } from './base-backup-sink.ts'

/** Parses the COPY OUTs of one backup, for a sink. */
export interface BackupFraming {
  onCopyOut(): Busy
  /** Some bytes of a message; `isFirst` for the first ones of each. */
  onCopyData(bytes: Buffer, isFirst: boolean): Busy
  onCopyDone(): Busy
}

/** The components of a framing. */
export interface FramingParts {
  readonly tablespaces: readonly BackupTablespace[]
  readonly sink: BaseBackupSink
  /** The error for a violation of the protocol. */
  readonly unexpected: (what: string) => WalrxError
}

/** The end of a tar. 14 leaves it to the client. */
const closingBlocks = Buffer.alloc(1024)

/** 14: a COPY OUT for each tablespace, in the order of the rows, of nothing but tar; then one of the manifest. */
export class PlainFraming implements BackupFraming {
  readonly #parts: FramingParts
  #copies = 0
  #inManifest = false

  constructor(parts: FramingParts) {
    this.#parts = parts
  }

  onCopyOut(): Busy {
    const { sink, tablespaces, unexpected } = this.#parts
    const index = this.#copies++
    if (index > tablespaces.length) throw unexpected('COPY after the manifest')
    const tablespace = tablespaces[index]
    this.#inManifest = tablespace === undefined
    return tablespace ? sink.onArchive(tablespace) : sink.onManifest()
  }

  onCopyData(bytes: Buffer): Busy {
    return this.#inManifest ? this.#parts.sink.onManifestData(bytes) : this.#parts.sink.onData(bytes)
  }

  onCopyDone(): Busy {
    if (!this.#inManifest) return this.#parts.sink.onData(closingBlocks)
  }
}

const newArchive = 0x6e
const data = 0x64
const manifest = 0x6d
const progress = 0x70

/** Two names and two zero bytes; a path on a server has at most 1024 bytes (MAXPGPATH). */
const smallBytesMax = 4096

/**
 * 15 and later: one COPY OUT; its messages begin with a letter: `n` a new archive (its file name, the tablespace's
 * path, both cstrings), `d` bytes of the archive or manifest, `m` the manifest begins, `p` int64 bytes done.
 */
export class TaggedFraming implements BackupFraming {
  readonly #parts: FramingParts
  #letter = 0
  #inArchive = false
  #inManifest = false
  /** The bytes so far of a message with a fixed form. */
  #small: Buffer = Buffer.alloc(0)

  constructor(parts: FramingParts) {
    this.#parts = parts
  }

  onCopyOut(): void {}

  onCopyDone(): void {}

  onCopyData(bytes: Buffer, isFirst: boolean): Busy {
    if (!isFirst) return this.#onPiece(bytes)
    this.#letter = bytes[0] ?? 0
    if (this.#letter === manifest) return this.#onManifest()
    this.#small = Buffer.alloc(0)
    if (bytes.length > 1) return this.#onPiece(bytes.subarray(1))
  }

  #onPiece(bytes: Buffer): Busy {
    if (this.#letter === data) {
      if (this.#inArchive) return this.#parts.sink.onData(bytes)
      if (this.#inManifest) return this.#parts.sink.onManifestData(bytes)
      throw this.#parts.unexpected('message with data outside an archive')
    }
    this.#small = Buffer.concat([this.#small, bytes])
    if (this.#small.length > smallBytesMax) throw this.#unknown()
    if (this.#letter === newArchive) return this.#onNewArchive()
    if (this.#letter !== progress) throw this.#unknown()
    if (this.#small.length === 8) this.#parts.sink.onProgress?.(Number(this.#small.readBigUInt64BE()))
  }

  #onNewArchive(): Busy {
    const end = this.#small.indexOf(0)
    if (end === -1 || this.#small.indexOf(0, end + 1) === -1) return
    const name = this.#small.toString('utf8', 0, end)
    const tablespace = this.#parts.tablespaces.find(({ oid }) => name === `${oid ?? 'base'}.tar`)
    if (!tablespace || this.#inManifest) throw this.#parts.unexpected(`archive "${name}"`)
    this.#inArchive = true
    return this.#parts.sink.onArchive(tablespace)
  }

  #onManifest(): Busy {
    if (this.#inManifest) throw this.#parts.unexpected('second manifest')
    this.#inArchive = false
    this.#inManifest = true
    return this.#parts.sink.onManifest()
  }

  #unknown(): WalrxError {
    return this.#parts.unexpected(
      `message of type 0x${this.#letter.toString(16)} with ${this.#small.length} bytes or more`,
    )
  }
}
