/**
 * Objects by keys that an operator types: they may be of any kind, or of none. What is of a kind is read and written in the
 * form of its kind alone, so that nothing is stored that nobody could read.
 */
import type { WriteCodec } from '../../../compression/codec.ts'
import { codecOfExtension, methodOfExtension, openReadCodec, openWriteCodec } from '../../../compression/codecs.ts'
import { WalrxError } from '../../../primitives/errors.ts'
import { HeadedSource } from '../../../primitives/headed-source.ts'
import type { Storage, StorageCallOptions } from '../../../storage/storage.ts'
import { formOf, kindOf, objectKinds } from '../object-kinds.ts'
import { beginningTest, decoded, named, openEncoder } from '../stored-form.ts'

/** How an object is read. */
export interface AnyReading extends StorageCallOptions {
  /** Decrypt what is encrypted by its kind, or may be, where keys are set. */
  readonly decrypt: boolean
  /** Decompress by the extension of the key. */
  readonly decompress: boolean
}

/**
 * The bytes of an object.
 * @throws WALRX_OBJECT_NOT_FOUND, WALRX_CODEC_UNSUPPORTED and what the storage says; while it is read also
 * WALRX_OBJECT_DAMAGED, WALRX_KEY_WRONG, WALRX_KEY_MISSING
 */
export async function openAnyObject(
  storage: Pick<Storage, 'get' | 'keyring' | 'location'>,
  key: string,
  { decompress, decrypt, signal }: AnyReading,
): Promise<AsyncIterable<Uint8Array>> {
  const at = `${storage.location}/${key}`
  const kind = formOf(key)
  // Without a key, what is of no kind is taken for what it looks like.
  const isEncrypted = kind.encrypted && (storage.keyring !== undefined || kindOf(key) !== undefined)
  const form = { ...kind, encrypted: decrypt && isEncrypted }
  const codec = kind.compressed ? codecOf(key, at) : openReadCodec('none')
  const stored = await storage.get(key, signal ? { signal } : {})
  const keyring = form.encrypted ? storage.keyring : undefined
  if (decompress) return decoded(stored, { key, at, form, codec, keyring })
  return keyring ? decryptedOnly(stored, { key, at, codec, keyring }) : stored
}

async function* decryptedOnly(
  stored: AsyncIterable<Uint8Array>,
  decoding: Pick<Parameters<typeof decoded>[1], 'at' | 'codec' | 'key'> & {
    readonly keyring: NonNullable<Storage['keyring']>
  },
): AsyncGenerator<Uint8Array, undefined> {
  try {
    yield* decoding.keyring.decrypt(new HeadedSource(stored), beginningTest(decoding))
  } catch (error) {
    throw named(error, decoding)
  }
}

/** The codec of a key's last extension; none where it has none that is a codec's. */
function codecOf(key: string, at: string) {
  const extension = extensionOf(key)
  const isCodec = extension === 'lzo' || methodOfExtension(extension) !== undefined
  return isCodec ? codecOfExtension(extension, at) : openReadCodec('none')
}

function extensionOf(key: string): string {
  const name = key.slice(key.lastIndexOf('/') + 1)
  const dot = name.lastIndexOf('.')
  return dot < 0 ? '' : name.slice(dot + 1)
}

/** How an object is written. */
export interface AnyWriting extends StorageCallOptions {
  /** Undefined: as it is. */
  readonly codec: WriteCodec | undefined
  readonly encrypt: boolean
}

/** The key under which {@link putAnyObject} stores: with the extension of the codec, as WAL-G's `st put`. */
export function keyOfAny(key: string, codec: WriteCodec | undefined): string {
  return codec && codec.extension !== '' ? `${key}.${codec.extension}` : key
}

/**
 * Stores an object, in place of one that is there.
 * @param key with the extension: see {@link keyOfAny}
 * @throws WALRX_USAGE for an object of a kind that is stored in another form; what `content` throws, and the storage
 */
export async function putAnyObject(
  storage: Storage,
  key: string,
  content: AsyncIterable<Uint8Array>,
  { codec, encrypt, signal }: AnyWriting,
): Promise<void> {
  refuseOtherForm(storage, key, codec !== undefined, encrypt)
  const keyring = encrypt ? storage.keyring : undefined
  const options = signal ? { signal } : {}
  if (!codec && !keyring) return storage.put(key, content, options)
  const { input, output } = openEncoder(codec ?? openWriteCodec('none'), keyring)
  const put = storage.put(key, output, options)
  let isOver = false
  const over = put.then(
    () => (isOver = true),
    () => (isOver = true),
  )
  try {
    for await (const piece of content) {
      // A put that fails reads no further: the encoder takes nothing more then.
      await Promise.race([input.write(piece), over])
      if (isOver) break
    }
    input.end()
  } catch (error) {
    // What could not be read is the reason, not that the encoder ended early.
    await input.destroy(error as Error)
    await over
    throw error
  }
  await put
}

function refuseOtherForm(storage: Storage, key: string, isCompressed: boolean, encrypt: boolean): void {
  const kind = kindOf(key)
  if (kind === undefined) return
  const form = objectKinds[kind]
  const isEncrypted = encrypt && storage.keyring !== undefined
  const wrong: string[] = []
  if (isCompressed && !form.compressed) wrong.push('--no-compress')
  if (isEncrypted && !form.encrypted) wrong.push('--no-encrypt')
  if (wrong.length === 0) return
  throw new WalrxError('WALRX_USAGE', `${key} would be a ${kind}, which nobody reads in that form`, {
    hint: `add ${wrong.join(' ')}`,
  })
}
