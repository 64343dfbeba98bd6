/** The real archive code over a simulated store, without compression: what is stored can be looked at. */
import { openWriteCodec } from '../../src/compression/codecs.ts'
import type { ReceiveArchive } from '../../src/receive/ports.ts'
import type { Storage } from '../../src/storage/storage.ts'
import { WalArchive } from '../../src/walg/wal/wal-archive.ts'

/** Opens it. */
export function openSimulatedArchive(storage: Storage): ReceiveArchive {
  return new WalArchive(storage, openWriteCodec('none'))
}
