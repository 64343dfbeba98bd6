/**
 * Codecs by method and by extension. Native modules are imported when their first byte comes; the imports here are only
 * a few kilobytes.
 */
import { WalrxError } from '../primitives/errors.ts'
import { brotliCodec, brotliLevelMax, brotliLevelMin } from './brotli.ts'
import type { Codec, ReadMethod, WriteCodec, WriteMethod } from './codec.ts'
import { gzipCodec } from './gzip.ts'
import { lz4Codec } from './lz4/lz4.ts'
import { lzmaCodec } from './lzma.ts'
import { noneCodec } from './none.ts'
import { zstdCodec, zstdLevelMax, zstdLevelMin } from './zstd/zstd.ts'

/** Extension of each method's objects, without the dot. */
export const extensions = {
  zstd: 'zst',
  lz4: 'lz4',
  brotli: 'br',
  none: '',
  lzma: 'lzma',
  gzip: 'gz',
} as const satisfies Record<ReadMethod, string>

/** Extensions that WAL-G reads and walrx doesn't. */
export const unsupportedExtensions: readonly string[] = ['lzo']

const methodByExtension: ReadonlyMap<string, ReadMethod> = new Map(
  Object.entries(extensions).map(([method, extension]) => [extension, method as ReadMethod]),
)

/** The names of `WALG_ZSTD_LEVEL` as levels of zstd: klauspost's, which WAL-G uses, are about these of libzstd. */
export const zstdLevels = { fastest: 1, default: 3, better: 7, best: 11 } as const

/** A name of {@link zstdLevels}. */
export type ZstdLevelName = keyof typeof zstdLevels

/** Options of {@link openWriteCodec}. */
export interface WriteCodecOptions {
  /** The codec's own level; of zstd also one of WAL-G's names. Default 1 for zstd, 3 for brotli. */
  readonly level?: number | ZstdLevelName | undefined
}

/** The method of an extension (without the dot, '' for none); undefined for what walrx cannot read. */
export function methodOfExtension(extension: string): ReadMethod | undefined {
  return methodByExtension.get(extension)
}

/** A codec to read with. */
export function openReadCodec(method: ReadMethod): Codec {
  switch (method) {
    case 'zstd':
      return zstdCodec()
    case 'lz4':
      return lz4Codec()
    case 'brotli':
      return brotliCodec()
    case 'none':
      return noneCodec
    case 'lzma':
      return lzmaCodec
    case 'gzip':
      return gzipCodec
    default:
      return method satisfies never
  }
}

/**
 * The codec that reads objects of this extension.
 * @param object names the object in the error
 * @throws WALRX_CODEC_UNSUPPORTED for lzo and anything unknown
 */
export function codecOfExtension(extension: string, object: string): Codec {
  const method = methodOfExtension(extension)
  if (method) return openReadCodec(method)
  throw new WalrxError('WALRX_CODEC_UNSUPPORTED', `${object} is compressed as .${extension}, which walrx cannot read`, {
    hint: hintOf(extension, object),
  })
}

/** No library for lzo has a licence that walrx can be given out with: lzo itself is under the GPL. */
function hintOf(extension: string, object: string): string {
  if (extension !== 'lzo') return 'rename it if it was not written by WAL-G or WAL-RUS: they never used this extension'
  const file = object.slice(object.lastIndexOf('/') + 1)
  return `fetch it with WAL-G, or store what lzop -d ${file} makes of it in its place, under the name without .lzo`
}

/**
 * A codec to write with.
 * @throws WALRX_USAGE for a level that the method doesn't have
 */
export function openWriteCodec(method: WriteMethod, options: WriteCodecOptions = {}): WriteCodec {
  switch (method) {
    case 'zstd':
      return zstdCodec(zstdLevel(options.level))
    case 'brotli':
      return brotliCodec(numberedLevel(method, options.level, brotliLevelMin, brotliLevelMax))
    case 'lz4':
      noLevel(method, options.level)
      return lz4Codec()
    case 'lzma':
      noLevel(method, options.level)
      return lzmaCodec
    case 'none':
      noLevel(method, options.level)
      return noneCodec
    default:
      return method satisfies never
  }
}

function zstdLevel(level: WriteCodecOptions['level']): number | undefined {
  if (typeof level === 'string' && Object.hasOwn(zstdLevels, level)) return zstdLevels[level]
  return numberedLevel('zstd', level, zstdLevelMin, zstdLevelMax)
}

function numberedLevel(
  method: WriteMethod,
  level: WriteCodecOptions['level'],
  min: number,
  max: number,
): number | undefined {
  if (level === undefined) return undefined
  if (typeof level === 'number' && Number.isInteger(level) && level >= min && level <= max) return level
  throw new WalrxError('WALRX_USAGE', `${method} has no compression level ${level}: choose one from ${min} to ${max}`)
}

function noLevel(method: WriteMethod, level: WriteCodecOptions['level']): void {
  if (level === undefined) return
  throw new WalrxError('WALRX_USAGE', `${method} has no compression levels, but level ${level} was given`, {
    hint: 'unset WALG_COMPRESSION_LEVEL and WALG_ZSTD_LEVEL, or choose zstd or brotli',
  })
}
