/**
 * A second archive beside that of the settings, as WAL-G's `copy` names one: by a config file, which then has all that is
 * needed to open it; or by a URL or a directory, which is opened with the settings of the first.
 */
import { statSync } from 'node:fs'
import { resolve } from 'node:path'
import { WalrxError } from '../primitives/errors.ts'
import type { Storage, StorageTrouble } from '../storage/storage.ts'
import { readConfigFile } from './config-file.ts'
import { type Environment, loadSettings, type SettingNotice, type Settings } from './load.ts'
import { openStorage } from './open-storage.ts'
import { withoutUser } from './s3-prefix.ts'

/** An archive by its place. */
export type ArchivePlace =
  | { readonly kind: 's3'; readonly prefix: string }
  | { readonly kind: 'directory'; readonly path: string }
  | { readonly kind: 'config file'; readonly path: string }

/**
 * The place that a text names: a URL, an existing directory or an existing file; undefined for anything else.
 * @throws WALRX_OPTION_UNSUPPORTED for a URL of another kind
 */
export function archivePlace(text: string): ArchivePlace | undefined {
  const [, scheme] = /^([a-z][a-z0-9+.-]*):\/\//i.exec(text) ?? []
  if (scheme?.toLowerCase() === 's3') return { kind: 's3', prefix: text }
  if (scheme?.toLowerCase() === 'file') return { kind: 'directory', path: text }
  if (scheme !== undefined) {
    throw new WalrxError(
      'WALRX_OPTION_UNSUPPORTED',
      `${withoutUser(text)}: walrx has no storage of the kind ${scheme}`,
      {
        hint: 'write s3://BUCKET/PATH, with AWS_ENDPOINT for a store that speaks its protocol, or a directory',
      },
    )
  }
  const stats = statSync(text, { throwIfNoEntry: false })
  if (stats?.isDirectory()) return { kind: 'directory', path: resolve(text) }
  return stats?.isFile() ? { kind: 'config file', path: text } : undefined
}

/** An archive that was opened. */
export interface OtherArchive {
  readonly storage: Storage
  /** Of the store, where it is not AWS: buckets of two stores may have one name. */
  readonly endpoint: string | undefined
  /** Texts that must never be printed. */
  readonly secrets: readonly string[]
  readonly notices: readonly SettingNotice[]
}

/**
 * Opens it. Nothing is asked of it yet.
 * @throws WALRX_USAGE, WALRX_OPTION_UNSUPPORTED for what the place, or its config file, says
 */
export async function openOtherArchive(
  place: ArchivePlace,
  settings: Settings<'copy'>,
  onTrouble: (trouble: StorageTrouble) => void,
): Promise<OtherArchive> {
  if (place.kind === 'config file') return openByFile(place.path, settings.environment, onTrouble)
  const { filePrefix: _file, s3Prefix: _s3, storagePrefix: _folder, ...rest } = settings.values
  const own = place.kind === 's3' ? { s3Prefix: place.prefix } : { filePrefix: place.path }
  const nowhere = { filePrefix: undefined, s3Prefix: undefined, storagePrefix: undefined }
  const storage = await openStorage({ ...rest, ...nowhere, ...own }, onTrouble)
  return { storage, endpoint: rest.awsEndpoint, secrets: [], notices: [] }
}

/**
 * The file alone says where the archive is, as for WAL-G: the environment names the other one. Only credentials come from
 * the environment where the file has none.
 */
async function openByFile(
  path: string,
  environment: Environment,
  onTrouble: (trouble: StorageTrouble) => void,
): Promise<OtherArchive> {
  const named = [...(await readConfigFile(path)).keys()]
  const hasOwnKeys = named.some((name) => /(^|_)AWS_(ACCESS_KEY|SECRET_|PROFILE|ROLE_ARN)/.test(name))
  const shared = hasOwnKeys
    ? sharedNames
    : /^(AWS_(ACCESS_KEY|SECRET_|SESSION_TOKEN|PROFILE|SHARED_|CONFIG_FILE|ROLE_|WEB_))/
  const passed = Object.entries(environment).filter(([name]) => shared.test(name) || sharedNames.test(name))
  const settings = await loadSettings({
    command: 'copy',
    flags: new Map([['configPath', path]]),
    environment: Object.fromEntries(passed.filter(([name]) => !named.includes(name))),
  })
  const storage = await openStorage(settings.values, onTrouble)
  const { notices, secrets, values } = settings
  return { storage, endpoint: values.awsEndpoint, secrets, notices }
}

/** How this machine reaches the network. */
const sharedNames = /^(HTTPS?|NO)_PROXY$/i
