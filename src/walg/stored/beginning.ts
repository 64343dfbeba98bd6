/**
 * What the first bytes of an object show without a key: nothing in an archive says which objects are encrypted. Where they
 * don't decide, the errors say both.
 *
 *   zstd, lz4, gzip, lzma   have marks of 3 bytes and more, which random bytes have less than once in 10^7 times. One byte of
 *                           it may be wrong: that is damage, and random bytes look so less than once in 20,000 times
 *   brotli                  has no mark. Its first bytes are decoded, and what comes out has to look like the kind of
 *                           object: 6 of 100 random heads decode to something (measured), and that is random as well
 *   none                    the kind's own beginning decides
 *
 * Of objects of random bytes fewer than one in ten thousand is taken for one that is not encrypted (test).
 */
import type { Codec } from '../../compression/codec.ts'
import type { Beginning } from '../../crypto/keyring.ts'
import { looksOrdered, looksRandom } from '../../crypto/looks-random.ts'
import { openpgpRecipients } from '../../crypto/openpgp/message-head.ts'
import { beginsContent } from './plain-content.ts'

/**
 * Judges the first bytes of an object of an encrypted kind.
 * @param head see {@link BeginningTest}
 * @param isWhole true where there are no more
 */
export async function judgeBeginning(head: Buffer, key: string, codec: Codec, isWhole: boolean): Promise<Beginning> {
  if (await isPlain(head, key, codec, isWhole)) return { kind: 'plain' }
  const marked = markOf(head)
  if (marked) return marked
  return { kind: !looksRandom(head) || isNearlyMarked(head, codec) ? 'damaged' : 'random' }
}

async function isPlain(head: Buffer, key: string, codec: Codec, isWhole: boolean): Promise<boolean> {
  if (codec.begins) return codec.begins(head)
  const content = codec.method === 'none' ? head : ((await codec.beginning?.(head)) ?? Buffer.alloc(0))
  if (content.length === 0) return false
  // What a codec makes of all of an object may be the beginning of more.
  const begins = beginsContent(content, key, isWhole && codec.method === 'none')
  return begins ?? looksOrdered(content)
}

/** What has a codec's mark but for one byte. */
function isNearlyMarked(head: Buffer, { begins }: Codec): boolean {
  if (!begins) return false
  const start = Buffer.from(head.subarray(0, markBytesMax))
  for (let at = 0; at < start.length; at++) {
    const was = start[at] ?? 0
    for (let byte = 0; byte < 256; byte++) {
      start[at] = byte
      if (begins(start)) return true
    }
    start[at] = was
  }
  return false
}

/** lzma's, the longest. */
const markBytesMax = 13

/** The marks of WAL-G's methods. Its AWS KMS and libsodium have none. */
function markOf(head: Buffer): (Beginning & { readonly kind: 'marked' }) | undefined {
  const envelope = ['envelope-yc-kms', 'yckms'].find((mark) => head.toString('latin1', 0, mark.length) === mark)
  if (envelope !== undefined) {
    const says = `is encrypted with a key of Yandex Cloud KMS (${envelope})`
    return { kind: 'marked', says, hint: 'walrx cannot read such objects: restore with WAL-G' }
  }
  const recipients = openpgpRecipients(head)
  if (!recipients) return undefined
  const [first, ...others] = recipients
  const keys = others.length === 0 ? `OpenPGP key ${first}` : `OpenPGP keys ${recipients.join(', ')}`
  const says = first === undefined ? 'is encrypted with an OpenPGP passphrase' : `is encrypted to ${keys}`
  return { kind: 'marked', says, hint: 'set WALG_PGP_KEY or WALG_PGP_KEY_PATH to the private key' }
}
