/**
 * The text of BASE_BACKUP (repl_gram.y and basebackup.c of each version; protocol-replication in PostgreSQL's
 * documentation). 14 takes a list of words, 15 and later take a parenthesised list of options; neither understands the
 * other form.
 */
import { WalrxError } from '../../primitives/errors.ts'

/** Algorithms of the manifest's checksums. */
export type ManifestChecksums = 'NONE' | 'CRC32C' | 'SHA224' | 'SHA256' | 'SHA384' | 'SHA512'

/** The options of a base backup. It never includes WAL: the receiver archives that. */
export interface BaseBackupOptions {
  /** Appears in backup_label. */
  readonly label: string
  /** `fast` makes the server write its checkpoint at full speed; `spread` takes up to checkpoint_timeout. */
  readonly checkpoint: 'fast' | 'spread'
  /** Limit of the transfer in kB/s, 32 to 1048576; undefined for none. */
  readonly maxRateKb?: number
  /** Verify the checksums of data pages while they are read. */
  readonly verifyChecksums: boolean
  /**
   * True (the default) leaves pg_tblspc out and sends a `tablespace_map`; false sends symbolic links. A link target of
   * more than {@link linkBytesMax} bytes does not fit into a tar's header, and the server then fails. 14 and 15 do not
   * support in-place tablespaces (allow_in_place_tablespaces): these have no row and no archive. With the map the
   * server silently leaves their files out; without it they are in the archive of the data directory.
   */
  readonly tablespaceMap?: boolean
  /** Accepts a backup with damaged pages, and reports the damage. This option is not sent to the server. */
  readonly acceptChecksumFailures?: boolean
  /** Undefined requests no manifest. */
  readonly manifestChecksums?: ManifestChecksums
  /** True for the changes since the backup of the uploaded manifest (17 and later). */
  readonly incremental?: boolean
  /** `blackhole` reads everything and sends nothing (15 and later). */
  readonly target?: 'client' | 'blackhole'
}

/** Bytes of a link's target in a tar's header, without the closing zero (tarCreateHeader in tar.c). */
export const linkBytesMax = 99

const maxRateMin = 32
const maxRateMax = 1_048_576

/**
 * The command.
 * @param serverVersion server_version_num
 * @throws WALRX_USAGE for a rate outside the server's limits, a blackhole before 15, an increment before 17
 */
export function baseBackupCommand(serverVersion: number, options: BaseBackupOptions): string {
  const { maxRateKb } = options
  if (maxRateKb !== undefined && !(Number.isInteger(maxRateKb) && maxRateKb >= maxRateMin && maxRateKb <= maxRateMax)) {
    throw new WalrxError(
      'WALRX_USAGE',
      `a rate of ${maxRateKb} kB/s is outside the server's range of ${maxRateMin} to 1048576`,
    )
  }
  if (options.incremental === true && serverVersion < 170_000) {
    const version = Math.floor(serverVersion / 10_000)
    throw new WalrxError('WALRX_USAGE', `PostgreSQL ${version} does not support incremental backups`, {
      hint: 'take a full backup; incremental backups need PostgreSQL 17 or later',
    })
  }
  return serverVersion < 150_000 ? wordList(options) : `BASE_BACKUP (${optionList(options).join(', ')})`
}

function optionList(options: BaseBackupOptions): string[] {
  const { checkpoint, label, manifestChecksums, maxRateKb, target, verifyChecksums } = options
  const blackhole = target === 'blackhole'
  const list = [`LABEL ${literal(label)}`, 'PROGRESS true', `CHECKPOINT '${checkpoint}'`, 'WAIT false']
  if (blackhole) list.push(`TARGET 'blackhole'`)
  // Without it the server sends tablespaces as symbolic links, and a restore would use the original directories.
  else list.push(`TABLESPACE_MAP ${options.tablespaceMap ?? true}`)
  list.push(`VERIFY_CHECKSUMS ${verifyChecksums}`)
  if (maxRateKb !== undefined) list.push(`MAX_RATE ${maxRateKb}`)
  if (manifestChecksums === undefined) list.push(`MANIFEST 'no'`)
  else list.push(`MANIFEST 'yes'`, `MANIFEST_CHECKSUMS '${manifestChecksums}'`)
  if (options.incremental === true) list.push('INCREMENTAL true')
  return list
}

function wordList(options: BaseBackupOptions): string {
  const { checkpoint, label, manifestChecksums, maxRateKb, target, verifyChecksums } = options
  if (target === 'blackhole') {
    throw new WalrxError('WALRX_USAGE', 'PostgreSQL 14 cannot read its data directory without sending it', {
      hint: 'this needs PostgreSQL 15 or later',
    })
  }
  const words = [`LABEL ${literal(label)}`, 'PROGRESS', ...(checkpoint === 'fast' ? ['FAST'] : []), 'NOWAIT']
  if (maxRateKb !== undefined) words.push(`MAX_RATE ${maxRateKb}`)
  if (options.tablespaceMap ?? true) words.push('TABLESPACE_MAP')
  if (!verifyChecksums) words.push('NOVERIFY_CHECKSUMS')
  if (manifestChecksums !== undefined) words.push(`MANIFEST 'yes'`, `MANIFEST_CHECKSUMS '${manifestChecksums}'`)
  return `BASE_BACKUP ${words.join(' ')}`
}

/** A string literal of the replication commands: only the quote is special. */
function literal(text: string): string {
  if (/[\0\n\r]/.test(text))
    throw new WalrxError('WALRX_USAGE', 'the label of a backup cannot contain line breaks or zero bytes')
  return `'${text.replaceAll("'", "''")}'`
}
