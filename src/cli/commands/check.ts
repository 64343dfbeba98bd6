/** `walrx check`: whether a receiver and backups would work with these settings, and what mends what would not. */
import { runCheck } from '../../check/run-check.ts'
import { checkStatus, monitoringStatus, monitoringStatuses } from '../../check/verdict.ts'
import { redactText } from '../../observe/redact.ts'
import { systemClock } from '../../primitives/clock.ts'
import { isAbort } from '../../primitives/errors.ts'
import { formatJson } from '../../primitives/json/json.ts'
import type { Command, CommandContext } from '../command.ts'
import { checkRequest } from '../settings/check/check-request.ts'
import { checkToJson } from '../terminal/check/check-json.ts'
import { checkText } from '../terminal/check/check-text.ts'
import { type MaybeTerminal, wantsColours } from '../terminal/terminal-rules.ts'

/** Milliseconds that one step may take: a server or a store that hangs is a finding. */
const stepMs = 20_000

/** See the file's header. */
export const checkCommand: Command<'check', never> = {
  name: 'check',
  positionals: [],
  examples: [
    {
      call: 'walrx check --dbname "host=db1 user=walrx" --s3-prefix s3://backups/db1',
      means: 'before the first start: what would not work, and the SQL or command that mends it',
    },
    {
      call: 'walrx check -d service=db1 --deep --delta-max-steps 6',
      means: 'also whether deltas will work, and how fast the store takes a segment',
    },
    {
      call: `walrx check -d service=db1 --json | jq -r '.findings[] | select(.level == "error") | .id'`,
      means: 'the ids of what is wrong, for a script',
    },
  ],
  async run(context) {
    if (!context.options.monitoring) return await check(context)
    try {
      return await check(context)
    } catch (error) {
      if (isAbort(error)) throw error
      // Status 1 would be a warning there.
      context.log.error('the check could not be made', { error })
      return monitoringStatuses.unknown
    }
  },
  whatIsLeft: ({ options }) =>
    options.deep ? 'an object below walrx_005/probe/ may be left, which can be removed' : undefined,
}

async function check(context: CommandContext<'check', never>): Promise<number> {
  const { options, settings, signals, stdout } = context
  const request = await checkRequest(context)
  try {
    const found = await runCheck(request, { clock: systemClock, signal: signals.drain, stepMs })
    const findings = found.map((finding) => ({
      ...finding,
      text: redactText(finding.text, settings.secrets),
      steps: finding.steps.map((step) => ({ ...step, text: redactText(step.text, settings.secrets) })),
    }))
    const status = options.monitoring ? monitoringStatus(findings) : checkStatus(findings)
    const text = options.json
      ? `${formatJson(checkToJson(findings, status))}\n`
      : checkText(findings, wantsColours(stdout as MaybeTerminal, settings.environment))
    await new Promise<void>((resolve) => void stdout.write(text, () => resolve()))
    return status
  } finally {
    await request.archive?.storage.close()
  }
}
