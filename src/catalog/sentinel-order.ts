/**
 * Writes sentinels without changing what LATEST means to WAL-G and WAL-RUS. The storage stamps them with the time of writing, so that a
 * sentinel that is written again has to be followed by all that were newer, the oldest first. What is going to be done is
 * written down before (`walrx_005/sentinel-order.json`): when the process ends in the middle, their LATEST is wrong until
 * the next walrx backup-mark, backup-push or backup-finish has finished the work. A deletion at the same time may be undone: a sentinel that was read before and
 * is put after it is there again.
 */
import { type Clock, sleep } from '../primitives/clock.ts'
import { hasCode, WalrxError } from '../primitives/errors.ts'
import { formatJson, type JsonValue } from '../primitives/json/json.ts'
import type { Storage, StorageCallOptions } from '../storage/storage.ts'
import type { BackupArchive, ListedBackup } from '../walg/backup/backup-archive.ts'
import { JsonDocument } from '../walg/json-document.ts'
import { sentinelOrderKey } from '../walg/names.ts'
import { readDocument } from '../walg/stored/stored-reader.ts'
import { createDocument, putDocument } from '../walg/stored/stored-writer.ts'
import { withPermanence } from '../walg/backup/sentinel.ts'
import { listInOrder } from './backup-order.ts'

/** What is going to be done. */
export interface SentinelOrder {
  /** All backups that there were when this was planned: others have come since, and are newer. */
  readonly known: readonly string[]
  /** All backups that get their sentinels written, in the order that they must have afterwards. */
  readonly names: readonly string[]
  /** Those of them that get the mark. */
  readonly marked: readonly string[]
  readonly permanent: boolean
}

/** What stays where nothing can be deleted. */
const nothingToDo = Buffer.from('{"known":[],"names":[],"marked":[],"permanent":false,"done":true}\n')

/** What the work is done with. */
export interface SentinelWriting extends StorageCallOptions {
  readonly storage: Storage
  readonly archive: BackupArchive
  readonly clock: Clock
}

/**
 * Finishes what another process has begun and not ended.
 * @returns what it was; undefined when there was nothing
 */
export async function finishSentinelOrder(writing: SentinelWriting): Promise<SentinelOrder | undefined> {
  const { storage } = writing
  let bytes: Buffer
  try {
    bytes = await readDocument(storage, sentinelOrderKey, writing)
  } catch (error) {
    if (hasCode(error, 'WALRX_OBJECT_NOT_FOUND')) return undefined
    throw error
  }
  if (bytes.equals(nothingToDo)) return undefined
  const order = parseOrder(bytes, `${storage.location}/${sentinelOrderKey}`)
  await write(writing, order)
  return order
}

/** Notes what is going to be done. Of two calls at the same time one fails. */
async function note(
  { storage, ...options }: SentinelWriting,
  { known, marked, names, permanent }: SentinelOrder,
): Promise<void> {
  const bytes = Buffer.from(`${formatJson({ known, names, marked, permanent })}\n`)
  if ((await createDocument(storage, sentinelOrderKey, bytes, options)) === 'created') return
  const read = () => readDocument(storage, sentinelOrderKey, options)
  let theirs = await read()
  if (theirs.equals(nothingToDo)) {
    await putDocument(storage, sentinelOrderKey, bytes, options)
    theirs = await read()
  }
  if (theirs.equals(bytes)) return
  throw new WalrxError('WALRX_ARCHIVE_CONFLICT', `another walrx backup-mark is running (${sentinelOrderKey})`, {
    hint: 'run this one again when that one has ended; if that one was killed, this one finishes its work',
  })
}

/** Removes the note, or has it say that there is nothing to do. */
async function clearNote({ storage, ...options }: SentinelWriting): Promise<void> {
  try {
    await storage.delete([sentinelOrderKey], options)
  } catch (error) {
    if (!hasCode(error, 'WALRX_STORAGE_DENIED')) throw error
    await putDocument(storage, sentinelOrderKey, nothingToDo, options)
  }
}

/**
 * Writes the sentinels.
 * @throws WALRX_ARCHIVE_CONFLICT when another backup-mark has begun such work in the meantime; WALRX_MARK_REFUSED, before any
 * sentinel is written, where the storage's clock is before the time of a sentinel that stays
 */
export async function writeSentinelOrder(writing: SentinelWriting, order: SentinelOrder): Promise<void> {
  if (order.names.length === 0) return
  await note(writing, order)
  await checkClock(writing, order)
  await write(writing, order)
}

/** How many sentinels are put again at most after one that comes late: the newest, for LATEST must stay. */
const putAgainMax = 32

/**
 * Writes the sentinel of a backup that others have overtaken: they began later, and have sentinels already. Theirs are
 * put again after it, for WAL-G and WAL-RUS take the last one as LATEST.
 * @param name of the backup
 * @param newer names of those that began later, the oldest first
 * @param put writes the sentinel
 * @throws what `put` throws; WALRX_ARCHIVE_CONFLICT, before that, when a backup-mark writes sentinels; then what the
 * storage says
 */
export async function putOvertaken(
  writing: SentinelWriting,
  name: string,
  newer: readonly string[],
  put: () => Promise<void>,
): Promise<void> {
  const { archive, signal } = writing
  const others = (await archive.listBackups(signal && { signal })).map((each) => each.name)
  const known = [...others.filter((each) => each !== name), name]
  const order = { known, names: newer.slice(-putAgainMax), marked: [], permanent: false }
  await note(writing, order)
  await put()
  await write(writing, order)
}

/** The note has been stamped with the time that sentinels would be stamped with. */
async function checkClock(writing: SentinelWriting, order: SentinelOrder): Promise<void> {
  const noted = await writing.storage.head(sentinelOrderKey, writing)
  const staying = await newestOfTheRest(writing, order)
  if (!noted || !staying || noted.lastModifiedMs >= staying.lastModifiedMs) return
  await clearNote(writing)
  const [now, then] = [noted, staying].map(({ lastModifiedMs }) => new Date(lastModifiedMs).toISOString())
  throw new WalrxError(
    'WALRX_MARK_REFUSED',
    `the clock of the storage shows ${now}, before the time of the sentinel of ${staying.name}, ${then}: LATEST would change`,
    {
      hint: 'check whether the archive was copied here with its times, and whether a clock is wrong; metadata.json is changed already',
    },
  )
}

/** Of the known backups that keep their sentinels as they are, the one with the latest time in the storage. */
async function newestOfTheRest(
  { archive, signal }: SentinelWriting,
  { known, names }: SentinelOrder,
): Promise<ListedBackup | undefined> {
  const rest = new Set(known.filter((name) => !names.includes(name)))
  const staying = (await archive.listBackups(signal && { signal })).filter(({ name }) => rest.has(name))
  return staying.reduce<ListedBackup | undefined>((newest, each) => {
    return newest && newest.lastModifiedMs >= each.lastModifiedMs ? newest : each
  }, undefined)
}

async function write(writing: SentinelWriting, order: SentinelOrder): Promise<void> {
  const marked = new Set(order.marked)
  let previousMs = (await newestOfTheRest(writing, order))?.lastModifiedMs ?? -Infinity
  const rewrite = async (name: string, isMarked: boolean) => {
    previousMs = await rewriteSentinel(writing, name, isMarked ? order.permanent : undefined, previousMs)
  }
  for (const name of order.names) await rewrite(name, marked.has(name))
  await putNewcomersAgain(writing, order, (name) => rewrite(name, false))
  await clearNote(writing)
}

/** A backup that finished while we wrote was LATEST, and is not any more. */
async function putNewcomersAgain(
  { archive, signal }: SentinelWriting,
  order: SentinelOrder,
  putAgain: (name: string) => Promise<void>,
): Promise<void> {
  const known = new Set(order.known)
  const inOrder = await listInOrder(archive, signal && { signal })
  for (const { name } of inOrder) if (!known.has(name)) await putAgain(name)
}

/** How long it is tried to get a later time from the storage: stores stamp with whole seconds. */
const patienceMs = 10_000
const firstPauseMs = 50
const pauseMaxMs = 1000

/**
 * Writes a sentinel again so that its time is later than `previousMs`.
 * @param permanent the new mark; undefined leaves the bytes as they are
 * @returns its time; `previousMs` where the backup has gone in the meantime
 */
async function rewriteSentinel(
  { archive, clock, signal }: SentinelWriting,
  name: string,
  permanent: boolean | undefined,
  previousMs: number,
): Promise<number> {
  const options = signal && { signal }
  let bytes: Buffer
  try {
    bytes = await archive.readSentinelBytes(name, options)
  } catch (error) {
    if (hasCode(error, 'WALRX_BACKUP_NOT_FOUND')) return previousMs
    throw error
  }
  const wanted = permanent === undefined ? bytes : withPermanence(bytes, permanent, name)
  let waitedMs = 0
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 2, pauseMaxMs)) {
    await archive.putSentinelBytes(name, wanted, options)
    const written = await archive.headBackup(name, options)
    if (!written) return previousMs
    if (written.lastModifiedMs > previousMs) return written.lastModifiedMs
    if (waitedMs >= patienceMs) {
      throw new WalrxError(
        'WALRX_STORAGE_UNAVAILABLE',
        `after ${waitedMs / 1000} s, the storage still gives the sentinel of ${name} no later time than the one before it`,
        { hint: 'check that the clock of the storage runs, then run walrx backup-mark again to finish' },
      )
    }
    await sleep(clock, pauseMs, signal)
    waitedMs += pauseMs
  }
}

function parseOrder(bytes: Buffer, key: string): SentinelOrder {
  try {
    return parse(bytes, `${key}, which says which sentinels are being written again,`)
  } catch (error) {
    if (!hasCode(error, 'WALRX_OBJECT_DAMAGED')) throw error
    const remove = `walrx st rm --force ${sentinelOrderKey}`
    const hint = `remove it with ${remove}; where walrx backup-list then warns of LATEST, run walrx backup-mark --rewrite-sentinels NAME`
    throw new WalrxError(error.code, error.message, { hint, cause: error })
  }
}

function parse(bytes: Buffer, key: string): SentinelOrder {
  const fields = JsonDocument.parse(bytes, key)
  const namesOf = (field: string): string[] => {
    const value = fields.take(field)
    const isNames = Array.isArray(value) && (value as readonly JsonValue[]).every((name) => typeof name === 'string')
    if (!isNames) throw fields.wrong(field, value, 'a list of names')
    return value as string[]
  }
  const known = namesOf('known')
  return { known, names: namesOf('names'), marked: namesOf('marked'), permanent: fields.flag('permanent') }
}
