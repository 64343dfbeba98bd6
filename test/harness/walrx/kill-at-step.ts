/**
 * Preloaded into a walrx that writes to a directory (`--import`), it makes the process kill itself with SIGKILL right
 * before or after one system call. `WALRX_TEST_KILL_AT` is `before` or `after`, the call, and a regular expression that
 * its path has to match: `after link wal_005/`. It counts from the SIGUSR2 on that it answers with the log line
 * `armed`.
 */
import fs, { type FileHandle } from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import process from 'node:process'

const [when, call, path = ''] = (process.env['WALRX_TEST_KILL_AT'] ?? '').split(' ')
const pattern = new RegExp(path)
let isArmed = false

process.on('SIGUSR2', () => {
  isArmed = true
  process.stderr.write(`${JSON.stringify({ level: 'info', msg: 'armed' })}\n`)
})

type AnyFunction = (...args: never[]) => Promise<unknown>

/** The same call, with the end of the process where it was asked for. */
function deadly<F extends AnyFunction>(name: string, pathOf: (args: Parameters<F>) => string, original: F): F {
  const wrapped = async (...args: Parameters<F>) => {
    const isHere = name === call && pattern.test(pathOf(args))
    if (isHere && isArmed && when === 'before') process.kill(process.pid, 'SIGKILL')
    const result = await original(...args)
    if (isHere && isArmed && when === 'after') process.kill(process.pid, 'SIGKILL')
    return result
  }
  return wrapped as F
}

const open = fs.open.bind(fs)
const first = ([one]: readonly unknown[]) => String(one)
const second = ([, two]: readonly unknown[]) => String(two)

/** Calls on what was opened go by the path that it was opened by. */
async function openWatched(...args: Parameters<typeof open>): Promise<FileHandle> {
  const handle = await open(...args)
  for (const name of ['write', 'sync', 'close'] as const) {
    handle[name] = deadly(name, () => String(args[0]), handle[name].bind(handle) as AnyFunction) as never
  }
  return handle
}

Object.assign(fs, {
  open: deadly('open', first, openWatched),
  link: deadly('link', second, fs.link.bind(fs)),
  rename: deadly('rename', second, fs.rename.bind(fs)),
  unlink: deadly('unlink', first, fs.unlink.bind(fs)),
})
syncBuiltinESMExports()
