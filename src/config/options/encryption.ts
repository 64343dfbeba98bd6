/** Options of the keys of an archive. */
import type { OptionSpec } from './option-types.ts'

/** How objects are encrypted. Keys have no flags: arguments are visible to every user of the machine. */
export const encryptionOptions = {
  libsodiumKey: {
    env: ['WALG_LIBSODIUM_KEY'],
    type: { kind: 'string' },
    defaultText: 'none',
    secret: true,
    commands: ['all with an archive'],
    group: 'Encryption',
    help: 'key of libsodium, written as WALG_LIBSODIUM_KEY_TRANSFORM says',
  },
  libsodiumKeyPath: {
    env: ['WALG_LIBSODIUM_KEY_PATH'],
    flag: 'libsodium-key-path',
    type: { kind: 'string' },
    valueName: 'FILE',
    defaultText: 'none',
    commands: ['all with an archive'],
    group: 'Encryption',
    help: 'file with the key of libsodium; white space around it does not count',
  },
  libsodiumKeyTransform: {
    env: ['WALG_LIBSODIUM_KEY_TRANSFORM'],
    flag: 'libsodium-key-transform',
    type: { kind: 'choice', values: ['none', 'hex', 'base64'] },
    valueName: 'TRANSFORM',
    default: 'none',
    commands: ['all with an archive'],
    group: 'Encryption',
    help: 'how the key is written: hex and base64 of 32 bytes, or none: at least 25 bytes, padded with zeros or cut to 32',
  },
  acceptUnencrypted: {
    env: ['WALRX_ACCEPT_UNENCRYPTED'],
    flag: 'accept-unencrypted',
    type: { kind: 'boolean' },
    default: 'false',
    commands: ['all with an archive'],
    group: 'Encryption',
    help: 'also read objects that are not encrypted, in an archive that is older than its encryption',
  },
} as const satisfies Record<string, OptionSpec>
