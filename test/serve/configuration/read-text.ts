/** A configuration that is read from a text, for tests: with the commands' own judgement of the settings. */
import { inheritedEnvironment } from '../../../src/cli/settings/served/cluster-environment.ts'
import { inspectCluster } from '../../../src/cli/settings/served/served-cluster.ts'
import { mistakeLine } from '../../../src/serve/configuration/mistakes.ts'
import { type ReadOutcome, readConfiguration } from '../../../src/serve/configuration/read-configuration.ts'

type Environment = Readonly<Record<string, string | undefined>>

/** Reads a text as `walrx serve` does. */
export function readText(
  text: string | Buffer,
  environment: Environment = {},
  isThorough = false,
): Promise<ReadOutcome> {
  const inspection = { inherited: inheritedEnvironment(environment), isThorough, checkedKeys: new Map() }
  return readConfiguration({ text, environment, inspect: (plan) => inspectCluster(plan, inspection) })
}

/** The lines that `walrx serve` prints for a text; none for a good one. */
export async function mistakeLines(text: string | Buffer, environment: Environment = {}): Promise<string[]> {
  const { mistakes = [] } = await readText(text, environment)
  return mistakes.map((mistake) => mistakeLine('walrx.yaml', mistake))
}
