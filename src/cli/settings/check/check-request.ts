/** What the options of check say, as a request. Settings that cannot be used are findings, and the rest is checked all the same. */
import type { CheckWish } from '../../../check/check-wish.ts'
import { failed, type Finding, ok, setting, words } from '../../../check/finding.ts'
import type { CheckRequest } from '../../../check/run-check.ts'
import type { StorePlace } from '../../../check/storage/probe-store.ts'
import { openCodec, openStorage } from '../../../config/open-storage.ts'
import type { OptionValues } from '../../../config/options/options.ts'
import { parseS3Prefix } from '../../../config/s3-prefix.ts'
import { refuseSlotName } from '../../../postgres/connect/pg-session.ts'
import { toWalrxError } from '../../../primitives/errors.ts'
import { clusterNameOf } from '../../../service/service-settings.ts'
import { type ListenAddress, parseListenAddress } from '../../../status/server.ts'
import type { CommandContext } from '../../command.ts'
import { checkReceiveOptions } from '../receive-settings.ts'
import { conninfoOf } from '../server-of.ts'

/** How long a store may fail before a step of the check gives it up: a check is to answer soon. */
const patienceMs = 8_000

/** Opens the archive. Asks nothing yet. */
export async function checkRequest(context: CommandContext<'check'>): Promise<CheckRequest> {
  const { log, options } = context
  const server = serverWish(context)
  const archive = await openArchive(options)
  const page = statusPage(options)
  return {
    wish: server.wish,
    archive: archive.opened,
    settings: [server.finding, archive.finding, ...page.findings],
    machine: {
      memoryBytes: options.memoryBytes,
      listen: page.listen,
      cluster: clusterNameOf(options),
    },
    isDeep: options.deep,
    log,
  }
}

function serverWish(context: CommandContext<'check'>): {
  readonly wish: CheckWish | undefined
  readonly finding: Finding
} {
  const id = 'server.settings'
  const { options } = context
  try {
    checkReceiveOptions(options)
    if (!options.slotless) refuseSlotName(options.slotName)
    const conninfo = conninfoOf(context)
    const wish: CheckWish = {
      conninfo,
      slot: options.slotless ? undefined : options.slotName,
      allowStandby: options.allowStandby,
      isSynchronous: options.synchronous,
      maxSlotLagBytes: options.maxSlotLagBytes,
      dropsSlot: options.slotLagAction === 'drop',
      deltaMaxSteps: options.full ? 0 : options.deltaMaxSteps,
      requireIncremental: options.requireIncremental,
      memoryBytes: options.memoryBytes,
    }
    return { wish, finding: ok(id, 'the connection string can be used, and the options fit each other') }
  } catch (error) {
    return { wish: undefined, finding: failed(id, toWalrxError(error)) }
  }
}

function statusPage({ statusListen }: OptionValues<'check'>): {
  readonly listen: ListenAddress | undefined
  readonly findings: readonly Finding[]
} {
  try {
    return { listen: parseListenAddress(statusListen), findings: [] }
  } catch (error) {
    return { listen: undefined, findings: [failed('machine.status_port', toWalrxError(error))] }
  }
}

async function openArchive(
  options: OptionValues<'check'>,
): Promise<{ readonly opened: CheckRequest['archive']; readonly finding: Finding }> {
  const id = 'storage.settings'
  if (options.s3Prefix === undefined && options.filePrefix === undefined) {
    const steps = [words('name a bucket or a directory, for instance:'), setting('--s3-prefix=s3://BUCKET/PATH')]
    const error = await openStorage(options).then(() => undefined, toWalrxError)
    if (error) return { opened: undefined, finding: failed(id, error, ...steps) }
  }
  try {
    const codec = openCodec(options)
    const storage = await openStorage({ ...options, storePatienceMs: Math.min(options.storePatienceMs, patienceMs) })
    const finding = ok(id, `the archive is ${storage.location}`)
    return { opened: { storage, codec, place: placeOf(options) }, finding }
  } catch (error) {
    return { opened: undefined, finding: failed(id, toWalrxError(error)) }
  }
}

function placeOf({ awsEndpoint, filePrefix, s3Prefix, storagePrefix }: OptionValues<'check'>): StorePlace {
  if (s3Prefix !== undefined) {
    const { bucket, folder } = parseS3Prefix(s3Prefix, storagePrefix)
    return { bucket: { name: bucket, folder, endpoint: awsEndpoint }, directory: undefined }
  }
  const root = (filePrefix ?? '').replace(/^file:\/\/(localhost)?/, '')
  return { bucket: undefined, directory: { root, folder: storagePrefix ?? '' } }
}
