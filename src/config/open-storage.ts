/** Opens the storage and the codec of the settings. Each backend is imported only when it is used. */
import type { WriteCodec } from '../compression/codec.ts'
import { openWriteCodec } from '../compression/codecs.ts'
import { WalrxError } from '../primitives/errors.ts'
import type { Storage, StorageTrouble } from '../storage/storage.ts'
import { archiveFolders } from '../walg/names.ts'
import { awsAccess } from './aws-access.ts'
import type { OptionValues } from './options/options.ts'
import type { KeySource } from './keys/key-settings.ts'
import { openKeyring } from './open-keyring.ts'
import { parseS3Prefix, withoutUser } from './s3-prefix.ts'

/** Options that say where the archive is: all commands take them. */
export type StorageValues = Omit<
  OptionValues<'wal-show'>,
  'detailedJson' | 'json' | 'walSegmentMegabytes' | 'withoutBackups'
> & {
  /** Of the commands that have the option; else the storage's own default. */
  readonly storePatienceMs?: number
} & Pick<KeySource, 'keyEnvironment'>

/**
 * Opens the storage. Nothing is asked of it yet.
 * @param onTrouble called when requests wait for the store
 * @throws WALRX_USAGE when none is named, or two are: WAL-G would take S3 then and WAL-RUS the directory
 */
export async function openStorage(
  values: StorageValues,
  onTrouble?: (trouble: StorageTrouble) => void,
): Promise<Storage> {
  const { filePrefix, s3Prefix } = values
  if (s3Prefix !== undefined && filePrefix !== undefined) {
    throw new WalrxError(
      'WALRX_USAGE',
      `both an S3 prefix (${withoutUser(s3Prefix)}) and a directory (${filePrefix}) are given`,
      {
        hint: 'unset WALG_S3_PREFIX or WALG_FILE_PREFIX: WAL-G would use the first and WAL-RUS the second',
      },
    )
  }
  if (s3Prefix !== undefined) return openS3(s3Prefix, values, onTrouble)
  if (filePrefix !== undefined) return openDirectory(filePrefix, values)
  throw new WalrxError('WALRX_USAGE', 'no archive is given', {
    hint: 'set WALG_S3_PREFIX=s3://bucket/path or WALG_FILE_PREFIX=/path, or give --s3-prefix or --file-prefix',
  })
}

async function openDirectory(prefix: string, values: StorageValues): Promise<Storage> {
  const { storagePrefix } = values
  const path = prefix.replace(/^file:\/\/(localhost)?/, '')
  if (!path.startsWith('/')) {
    throw new WalrxError('WALRX_USAGE', `WALG_FILE_PREFIX is "${prefix}", and must be an absolute path`, {
      hint: 'write the path from the root, for instance /srv/archive/db1',
    })
  }
  const { FileStorage } = await import('../storage/file/file-storage.ts')
  // A folder below the prefix is made where it is missing, as WAL-G does; the prefix itself must exist.
  return new FileStorage({
    root: path,
    folders: archiveFolders,
    keyring: openKeyring(values),
    ...(storagePrefix === undefined ? {} : { prefix: storagePrefix }),
  })
}

async function openS3(
  prefix: string,
  values: StorageValues,
  onTrouble: ((trouble: StorageTrouble) => void) | undefined,
): Promise<Storage> {
  const { bucket, folder } = parseS3Prefix(prefix, values.storagePrefix)
  const { S3Storage } = await import('../storage/s3/s3-storage.ts')
  return new S3Storage({
    bucket,
    folders: archiveFolders,
    keyring: openKeyring(values),
    prefix: folder,
    ...awsAccess(values),
    endpoint: values.awsEndpoint,
    forcePathStyle: values.s3ForcePathStyle,
    storageClass: values.s3StorageClass,
    sse: values.s3Sse,
    sseKmsKeyId: values.s3SseKmsId,
    sseCustomerKey: values.s3SseC,
    checksums: values.s3Checksums,
    maxRetries: values.s3MaxRetries,
    retryTimeMaxMs: values.storePatienceMs,
    onTrouble,
    partSizeBytes: values.s3MaxPartBytes,
  })
}

/** Options that say how objects are compressed. */
export type CodecValues = Pick<OptionValues<'wal-receive'>, 'compressionMethod' | 'compressionLevel' | 'zstdLevel'>

/** The codec to write with. Throws WALRX_USAGE for a level that the method lacks, or two levels. */
export function openCodec(values: CodecValues): WriteCodec {
  const { compressionLevel, compressionMethod, zstdLevel } = values
  if (compressionMethod === 'gzip') {
    throw new WalrxError('WALRX_OPTION_UNSUPPORTED', `walrx reads ${compressionMethod}, but does not write it`, {
      hint: 'set WALG_COMPRESSION_METHOD to zstd, lz4, brotli, lzma or none',
    })
  }
  if (zstdLevel !== undefined && compressionLevel !== undefined) {
    throw new WalrxError(
      'WALRX_USAGE',
      `two levels are given: WALG_ZSTD_LEVEL=${zstdLevel} and WALG_COMPRESSION_LEVEL=${compressionLevel}`,
      { hint: 'unset one of the two' },
    )
  }
  return openWriteCodec(compressionMethod, { level: zstdLevel ?? compressionLevel })
}
