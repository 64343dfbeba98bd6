/** `walrx serve`: any number of clusters in one process, by one file. */
import { readFile } from 'node:fs/promises'
import { ServiceNotice } from '../../daemon/service-notice.ts'
import { MetricsPage } from '../../observe/metrics-page.ts'
import { systemClock } from '../../primitives/clock.ts'
import { WalrxError } from '../../primitives/errors.ts'
import { packageVersion } from '../../primitives/version.ts'
import { answered, NoAnswerError, noAnswerText } from '../../serve/configuration/answered.ts'
import { jsonSchema } from '../../serve/configuration/json-schema.ts'
import { mistakeLine } from '../../serve/configuration/mistakes.ts'
import { readConfiguration } from '../../serve/configuration/read-configuration.ts'
import { Hangups } from '../../serve/hangups.ts'
import { serve } from '../../serve/serving.ts'
import type { Command } from '../command.ts'
import { inheritedEnvironment } from '../settings/served/cluster-environment.ts'
import { inspectCluster, launchOf, servedSettings } from '../settings/served/served-cluster.ts'
import { servedSummary } from '../terminal/served/served-summary.ts'

/** See the file's header. */
export const serveCommand: Command<'serve'> = {
  name: 'serve',
  positionals: [],
  examples: [
    { call: 'walrx serve --config /etc/walrx.yaml', means: 'serve the clusters of the file; SIGHUP reads it again' },
    {
      call: 'walrx serve --config /etc/walrx.yaml --check',
      means: 'show its mistakes with line and column, or what would run and when',
    },
    { call: 'walrx serve --schema > walrx.schema.json', means: 'for an editor that checks and completes the file' },
  ],
  async run({ log, options, settings, signals, stderr, stdout }) {
    if (options.serveSchema) return await show(stdout, `${JSON.stringify(jsonSchema(), undefined, 2)}\n`)
    const path = settings.source('configPath') === 'flag' ? options.configPath : undefined
    if (path === undefined) {
      throw new WalrxError('WALRX_USAGE', 'serve needs the file of the clusters', {
        hint: 'write walrx serve --config FILE; docs/serve.md has an example',
      })
    }
    const hangups = new Hangups(signals.onHangup, log)
    const { environment } = settings
    const inherited = inheritedEnvironment(environment)
    const load = async (isThorough: boolean) => {
      const inspection = { inherited, isThorough, checkedKeys: new Map() }
      const text = await readText(path)
      return await readConfiguration({ text, environment, inspect: (plan) => inspectCluster(plan, inspection) })
    }
    const { configuration, mistakes } = await load(options.serveCheck)
    if (!configuration)
      return await show(stderr, mistakes.map((mistake) => `${mistakeLine(path, mistake)}\n`).join(''), 2)
    if (options.serveCheck) return await show(stdout, servedSummary(configuration, Date.now()))
    const metrics = new MetricsPage(packageVersion())
    await serve({
      path,
      configuration,
      load: () => load(false),
      clock: systemClock,
      random: Math.random,
      log,
      metrics,
      serviceSettings: (plan, parts) => servedSettings(plan, parts, inherited),
      launch: (call) => launchOf(call, inherited, options.logLevel),
      drain: signals.drain,
      now: signals.now,
      onHangup: hangups.listen,
      notice: new ServiceNotice({ environment, clock: systemClock, log }),
    })
    return 0
  },
}

/** Of a file that is no configuration of walrx at all, no more is read. */
const textBytesMax = 16 * 1024 * 1024

async function readText(path: string): Promise<Buffer> {
  try {
    const bytes = await answered(() => readFile(path))
    if (bytes.length > textBytesMax) throw new WalrxError('WALRX_USAGE', `config file ${path} is larger than 16 MB`)
    return bytes
  } catch (error) {
    if (error instanceof WalrxError) throw error
    const { code } = error as NodeJS.ErrnoException
    const reason = error instanceof NoAnswerError ? `its file system ${noAnswerText}` : code
    const why = code === 'ENOENT' ? 'does not exist' : `cannot be read (${reason})`
    throw new WalrxError('WALRX_USAGE', `config file ${path} ${why}`, {
      cause: error,
      hint: 'name another file with --config, or make this one readable',
    })
  }
}

/** A pipe takes a long text bit by bit. */
async function show(to: NodeJS.WritableStream, text: string, status = 0): Promise<number> {
  await new Promise<void>((resolve) => void to.write(text, () => resolve()))
  return status
}
