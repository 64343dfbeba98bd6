/**
 * Reads an encrypted OpenPGP message, as WAL-G does with ReadMessage (internal/crypto/openpgp/crypter.go):
 *
 *     message := packets with the session key, encrypted data
 *     inside  := [signature] (literal data | compressed data with literal data inside) [signature]
 *
 * Packets that only say who signed are skipped: WAL-G does not check signatures. What is left of a message after its content
 * is read as well, so that the check at the end has seen every byte.
 */
import { Readable } from 'node:stream'
import { createInflate, createInflateRaw } from 'node:zlib'
import { ByteReader } from '../../primitives/byte-reader.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { messageHeadBytes, recipientBytesMax, recipientOf, type Recipient } from './message-head.ts'
import { packetBody, packetTypes, readPacketHeader, type PacketHeader } from './packet-header.ts'

/** Packets before or after the content that say nothing about it. */
const skipped: readonly number[] = [
  packetTypes.signature,
  packetTypes.onePassSignature,
  packetTypes.marker,
  packetTypes.padding,
]

/** Compressed packets may lie in each other; nobody writes more than one. */
const depthMax = 3

/** The beginning of a message. */
export interface MessageBeginning {
  readonly recipients: readonly Recipient[]
  /** Of the encrypted data. */
  readonly data: PacketHeader
}

/**
 * Reads the packets with the session key: the reader stands after the header of the encrypted data.
 * @throws WALRX_OBJECT_DAMAGED
 */
export async function readBeginning(reader: ByteReader): Promise<MessageBeginning> {
  const recipients: Recipient[] = []
  for (;;) {
    const header = await readPacketHeader(reader)
    if (!header) throw reader.cutShort()
    const { bytes, type } = header
    if (type === packetTypes.encrypted || type === packetTypes.aeadEncrypted) return { recipients, data: header }
    if (type === packetTypes.encryptedUnprotected) throw unprotected()
    if (header.isPartial || reader.offset + bytes > messageHeadBytes) {
      throw damaged(`has more than ${recipientBytesMax} bytes before its encrypted data`)
    }
    const body = await reader.read(bytes)
    const recipient = type === packetTypes.publicKeySessionKey ? recipientOf(body) : undefined
    if (recipient) recipients.push(recipient)
  }
}

/**
 * The content of decrypted packets.
 * @throws while iterating: WALRX_OBJECT_DAMAGED for what is no such message, WALRX_CODEC_UNSUPPORTED for bzip2
 */
export async function* messageContent(
  packets: AsyncIterable<Uint8Array>,
  depth = 0,
): AsyncGenerator<Uint8Array, undefined> {
  const reader = new ByteReader(packets, 'content of the encrypted object')
  try {
    let isRead = false
    for (let header = await readPacketHeader(reader); header; header = await readPacketHeader(reader)) {
      const { type } = header
      const body = packetBody(reader, header)
      if (skipped.includes(type)) {
        for await (const bytes of body) void bytes
      } else if (!isRead && type === packetTypes.literal) {
        isRead = true
        yield* literalContent(body)
      } else if (!isRead && type === packetTypes.compressed && depth < depthMax) {
        isRead = true
        yield* compressedContent(body, depth)
      } else {
        throw damaged(`has a packet of type ${type} ${isRead ? 'after' : 'instead of'} its content`)
      }
    }
    if (!isRead) throw reader.cutShort()
  } finally {
    await reader.close()
  }
}

/** Format, length of the file's name, name, date; then the content, which is bytes whatever the format says, as for WAL-G. */
async function* literalContent(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, undefined> {
  const reader = new ByteReader(body, 'literal data')
  await reader.skip(1)
  const nameBytes = (await reader.read(1)).readUInt8()
  await reader.skip(nameBytes + 4)
  yield* reader.rest()
}

async function* compressedContent(
  body: AsyncIterable<Uint8Array>,
  depth: number,
): AsyncGenerator<Uint8Array, undefined> {
  const reader = new ByteReader(body, 'compressed data')
  const method = (await reader.read(1)).readUInt8()
  if (method === 0) return yield* messageContent(reader.rest(), depth + 1)
  if (method === 3) {
    throw new WalrxError('WALRX_CODEC_UNSUPPORTED', 'the content is compressed by bzip2 inside of OpenPGP', {
      hint: 'decrypt the object with gpg, and encrypt it again with --compress-algo none',
    })
  }
  if (method !== 1 && method !== 2) throw damaged(`has content that is compressed by an unknown method (${method})`)
  const inflate = method === 1 ? createInflateRaw() : createInflate()
  const source = Readable.from(reader.rest(), { objectMode: false })
  source.once('error', (error) => inflate.destroy(error))
  source.pipe(inflate)
  try {
    yield* messageContent(inflate as AsyncIterable<Uint8Array>, depth + 1)
    // A stream that is complete before its source leaves bytes there, and the check at the end has to see them.
    source.unpipe(inflate)
    for await (const rest of source) void rest
  } catch (error) {
    if (!(error instanceof WalrxError) && (error as NodeJS.ErrnoException).code?.startsWith('Z_')) {
      throw damaged(`has compressed content that does not decompress: ${(error as Error).message}`)
    }
    throw error
  } finally {
    source.destroy()
    inflate.destroy()
  }
}

function unprotected(): WalrxError {
  return damaged('has no protection of its integrity (an OpenPGP packet of type 9): WAL-G refuses such objects as well')
}

function damaged(detail: string): WalrxError {
  return new WalrxError('WALRX_OBJECT_DAMAGED', `the encrypted object ${detail}`)
}
