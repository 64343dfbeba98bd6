/** The system identifier of a data directory. */
import { join } from 'node:path'
import { WalrxError } from '../primitives/errors.ts'
import { openRegular } from '../primitives/regular-file.ts'

/** The file that holds it, below the data directory. */
export const controlFilePath = join('global', 'pg_control')

/**
 * Reads it: the first eight bytes of global/pg_control, in the server's byte order (ControlFileData in
 * catalog/pg_control.h).
 * @throws the error of the system call; WALRX_SYSTEM for a file that is too short, or no regular one
 */
export async function readSystemIdentifier(dataDir: string): Promise<bigint> {
  const path = join(dataDir, controlFilePath)
  const file = await openRegular(path)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(8), 0, 8, 0)
    if (bytesRead === 8) return buffer.readBigUInt64LE(0)
    throw new WalrxError('WALRX_SYSTEM', `${path} has ${bytesRead} bytes, and is no control file`)
  } finally {
    await file.close()
  }
}
