/**
 * What keeps a command from starting, beyond the text of each of its settings: settings that contradict each other, a connection
 * string or a service that cannot be used, an archive that is named wrongly, a key that cannot be read. No server and no store
 * is asked. A key command is run, because nothing else shows whether it works.
 */
import { isIn } from '../../config/commands.ts'
import { type LoadInput, loadSettings, type Settings } from '../../config/load.ts'
import { writingKeysOf } from '../../config/keys/key-settings.ts'
import { openCodec, openStorage } from '../../config/open-storage.ts'
import type { CommandName, OptionSpec } from '../../config/options/option-types.ts'
import { type OptionKey, optionTable, type OptionValues } from '../../config/options/options.ts'
import { toWalrxError, type WalrxError } from '../../primitives/errors.ts'
import { parseListenAddress } from '../../status/server.ts'
import { checkReceiveOptions } from './receive-settings.ts'
import { conninfoOf } from './server-of.ts'

/** What {@link startProblem} looks at. */
export interface StartInput extends Omit<LoadInput<CommandName>, 'command'> {
  /** Undefined: what is set is judged for a command that reads the archive, and for one that asks the server. */
  readonly command: CommandName | undefined
  /** True leaves the keys alone: no file of one is read, and no command is run. */
  readonly withoutKeys?: boolean
}

/** The first problem; undefined for none. What is not set at all is none. */
export async function startProblem({
  command,
  withoutKeys = false,
  ...input
}: StartInput): Promise<WalrxError | undefined> {
  const commands = command === undefined ? (['wal-show', 'scrub'] as const) : [command]
  try {
    for (const each of commands) await check(await loadSettings({ command: each, ...input }), withoutKeys)
    return undefined
  } catch (error) {
    return toWalrxError(error)
  }
}

async function check(settings: Settings, withoutKeys: boolean): Promise<void> {
  const { command, pgEnvironment } = settings
  const has = (key: OptionKey) => isIn(command, (optionTable[key] as OptionSpec).commands)
  // Which of them a command has is looked up here, and not known to the compiler.
  const values = settings.values as unknown as OptionValues<'wal-receive'>
  if (has('conninfo') && (values.conninfo !== undefined || Object.keys(pgEnvironment).length > 0)) {
    conninfoOf({ options: values, settings })
  }
  if (has('zstdLevel')) openCodec(values)
  if (has('statusListen')) parseListenAddress(values.statusListen)
  if (command === 'wal-receive') checkReceiveOptions(values)
  if (!has('filePrefix') || (values.filePrefix === undefined && values.s3Prefix === undefined)) return
  const storage = await openStorage({ ...values, keyEnvironment: settings.environment })
  try {
    if (values.s3Prefix !== undefined) await checkWay(values)
    if (withoutKeys) return
    // A key that encrypts has to decrypt too where it has a secret half: it may be locked. Only KMS would be asked for it.
    const isWriting = has('zstdLevel') && writingKeysOf(values).length > 0
    if (isWriting && values.cseKmsId === undefined) await storage.keyring?.prove()
    else await storage.keyring?.keys()
  } finally {
    await storage.close()
  }
}

/** The way to the store, which a client is made for with its first request. */
async function checkWay(values: OptionValues<'wal-receive'>): Promise<void> {
  const { checkedEndpoint, readAuthorities } = await import('../../aws/client-settings.ts')
  const { proxyFor } = await import('../../aws/proxy.ts')
  const { awsEndpoint = 'https://s3.amazonaws.com', httpProxy, httpsProxy, noProxy, s3CaCertFile } = values
  proxyFor({ httpProxy, httpsProxy, noProxy }, new URL(checkedEndpoint(awsEndpoint, 'S3')))
  if (s3CaCertFile !== undefined) await readAuthorities(s3CaCertFile)
}
