/** `walrx delete`: removes backups and WAL that nobody needs any more, and shows before what that would be. */
import { openStorage } from '../../config/open-storage.ts'
import { systemClock } from '../../primitives/clock.ts'
import { formatJson } from '../../primitives/json/json.ts'
import type { Logger } from '../../observe/log.ts'
import { readArchiveContents, readBackupsOnly } from '../../retention/contents/archive-contents.ts'
import { carryOut, type DeletionOutcome } from '../../retention/removal/carry-out.ts'
import { checkEverything, countEverything, deleteEverything } from '../../retention/removal/delete-everything.ts'
import { planDeletion } from '../../retention/plan/deletion-plan.ts'
import { reasonOf, Refusals } from '../../retention/removal/refusals.ts'
import type { Storage } from '../../storage/storage.ts'
import type { Command, CommandContext } from '../command.ts'
import { askedDeletion } from '../settings/retention-rule.ts'
import { segmentSizeOf } from '../settings/segment-size.ts'
import { deletionToJson } from '../terminal/plans/deletion-json.ts'
import { deletionText, sweptText } from '../terminal/plans/deletion-text.ts'
import { counted, humanSize } from '../terminal/human-size.ts'
import { forDeletion, LinkNotes, reportVersions } from '../terminal/deletion-notes.ts'

type Context = CommandContext<'delete', never, 'what'>

const dryRun = 'nothing was deleted: --confirm deletes\n'

/** See the file's header. */
export const deleteCommand: Command<'delete', never, 'what'> = {
  name: 'delete',
  positionals: [],
  optionals: [
    {
      name: 'what',
      help: "retain, before, target, garbage or everything: WAL-G's words; none with --keep-days and its like",
    },
  ],
  rest: {
    name: 'words',
    help: 'retain [FULL|FIND_FULL] COUNT; before [FIND_FULL] NAME|TIME; target [FIND_FULL] NAME; garbage [ARCHIVES|BACKUPS]; everything [FORCE]',
  },
  examples: [
    { call: 'walrx delete --keep-days 14', means: 'show what may go if any moment of the last 14 days is to stay' },
    {
      call: 'walrx delete --recovery-window 14d --keep-monthly 12 --confirm',
      means: 'delete it, but for the last backup of each of twelve months',
    },
    {
      call: 'walrx delete retain FULL 5 --confirm',
      means: 'keep five full backups, and all that is newer than the first',
    },
    { call: 'walrx delete garbage', means: 'show WAL from before the oldest backup, and what dead backups have left' },
  ],
  async run(context) {
    const { options, positionals, rest, signals } = context
    const asked = askedDeletion({ what: positionals.what, rest, options, nowMs: systemClock.now() })
    const links = new LinkNotes(context.log)
    const storage = forDeletion(await openStorage(options), links)
    try {
      if (asked.kind === 'everything') return await everything(storage, asked.force, context)
      const signal = signals.drain
      const segmentSize = segmentSizeOf(options)
      const contents = await readArchiveContents(storage, {
        ...{ segmentSize, clock: systemClock, signal },
        asksTime: options.confirm,
      })
      const plan = planDeletion(contents, asked.rule)
      const show = (outcome: DeletionOutcome | undefined) =>
        options.json
          ? deletionToJson(
              plan,
              contents.segmentSize,
              outcome && { ...outcome, keepsVersions: storage.keepsVersions ?? false },
            )
          : outcomeText(outcome)
      if (!options.json) await write(context, deletionText(plan, contents.segmentSize))
      const outcome = options.confirm
        ? await carryOut({ storage, clock: systemClock, contents, plan, signal })
        : undefined
      await write(context, show(outcome))
      if (outcome) report(outcome, storage.location, context.log)
      return 0
    } finally {
      reportVersions(storage, context.log)
      links.end()
      await storage.close()
    }
  },
  whatIsLeft: () => 'what is left is consistent: run the same walrx delete again to end it',
}

function outcomeText(outcome: DeletionOutcome | undefined): string {
  if (!outcome) return dryRun
  const { backups, bytes, objects, unfinishedFiles } = outcome
  const swept = sweptText(unfinishedFiles)
  return `deleted: ${counted(backups, 'backup')}, ${counted(objects, 'object')}, ${humanSize(bytes)}${swept}\n`
}

/** What the storage kept ends the command with its status; a backup that stays is a warning. */
function report({ refusals, staying }: DeletionOutcome, location: string, log: Logger): void {
  if (staying.length > 0) log.warn('backups that were to go stay', { backups: [...staying] })
  // The last line names the first one.
  for (const refusal of refusals.shown.slice(1))
    log.warn('the storage kept an object', { key: refusal.key, error: reasonOf(refusal) })
  const error = refusals.toError(location)
  if (error) throw error
}

async function everything(storage: Storage, force: boolean, context: Context): Promise<number> {
  const { log, options, signals } = context
  const signal = signals.drain
  if (!force) {
    const { backups, unfinished } = await readBackupsOnly(storage, {
      clock: systemClock,
      signal,
      asksTime: options.confirm,
    })
    checkEverything(backups, unfinished)
  }
  if (!options.confirm) {
    const folders = await countEverything(storage, { signal })
    const text = folders.map(
      ({ bytes, folder, objects }) =>
        `delete  ${folder === '' ? '(in no folder)' : folder}  ${counted(objects, 'object')}  ${humanSize(bytes)}\n`,
    )
    const json = { dry_run: true, folders: folders.map((each) => ({ ...each })) }
    await write(context, options.json ? `${formatJson(json)}\n` : text.join('') + dryRun)
    return 0
  }
  const refusals = new Refusals()
  const removed = await deleteEverything(storage, { signal, refusals, clock: systemClock })
  const { bytes, objects, unfinishedFiles } = removed
  const files = unfinishedFiles ? { ...unfinishedFiles } : null
  const done = {
    dry_run: false,
    done: {
      objects,
      bytes,
      refused: refusals.count,
      unfinished_files: files,
      keeps_versions: storage.keepsVersions ?? false,
    },
  }
  const text = `deleted: everything, ${counted(objects, 'object')}, ${humanSize(bytes)}${sweptText(unfinishedFiles)}\n`
  await write(context, options.json ? `${formatJson(done)}\n` : text)
  report({ ...removed, backups: 0, staying: [], refusals }, storage.location, log)
  return 0
}

function write({ stdout }: Context, text: string): Promise<void> {
  return new Promise((resolve) => void stdout.write(text, () => resolve()))
}
