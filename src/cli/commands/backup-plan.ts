/** `walrx backup-plan`, and `walrx backup-push --dry-run`: what a backup would be, and why. */
import { notIncremental } from '../../backup/backup-begin.ts'
import { makePlan } from '../../backup/plan/backup-plan.ts'
import { openStorage } from '../../config/open-storage.ts'
import type { Command, CommandContext } from '../command.ts'
import { deltaRulesOf } from '../settings/delta-rules.ts'
import { planToJson } from '../terminal/plans/plan-json.ts'
import { planToText } from '../terminal/plans/plan-text.ts'
import { StoreWaits } from '../terminal/store-waits.ts'
import { type ServerContext, serverOf } from '../settings/server-of.ts'

/** See the file's header. */
export const backupPlan: Command<'backup-plan'> = {
  name: 'backup-plan',
  positionals: [],
  examples: [
    {
      call: 'walrx backup-plan -d service=db1 --delta-max-steps 6',
      means: 'what it would build on, what has changed since, and how large it would be',
    },
    {
      call: 'walrx backup-plan -d service=db1 --delta-max-steps 6 --json | jq .expected.delta.bytes',
      means: 'the size, for a program',
    },
  ],
  run: runPlan,
}

/** What a plan needs of a command's context. */
export type PlanContext = Pick<CommandContext<'backup-plan'>, 'log' | 'options' | 'signals' | 'stdout'> & ServerContext

/** Plans and prints. @throws WALRX_BACKUP_NOT_INCREMENTAL when that is to be an error, after the plan */
export async function runPlan(context: PlanContext): Promise<number> {
  const { log, options, signals, stdout } = context
  const delta = deltaRulesOf(options)
  const server = serverOf(context, true)
  const waits = new StoreWaits(log)
  const storage = await openStorage(options, waits.onTrouble)
  try {
    const report = await makePlan({
      server,
      storage,
      delta,
      isPermanent: options.permanent,
      partBytesMax: options.tarSizeThreshold,
      log,
      signal: signals.drain,
    })
    const write = (text: string) => new Promise<void>((resolve) => void stdout.write(text, () => resolve()))
    if (!options.json) await write(planToText(report, delta.maxSteps))
    else for (const piece of planToJson(report)) await write(piece)
    if (report.plan.full && options.requireIncremental) throw notIncremental(report.plan.full)
    return 0
  } finally {
    await storage.close()
  }
}
