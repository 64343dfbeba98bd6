/** walrx as it is installed: compiled from this checkout's source, so that nothing stale is measured. */
import { execFile } from 'node:child_process'
import { access, copyFile, mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { checkout, type WorkDirectory } from './work-directory.ts'

/** Compiles `src` into the work directory. Returns the path of `main.js`, to be run by Node. */
export async function buildWalrx(work: WorkDirectory, say: (text: string) => void): Promise<string> {
  const directory = work.at('walrx')
  await mkdir(directory, { recursive: true })
  const tsc = join(checkout, 'node_modules/typescript/bin/tsc')
  const args = [tsc, '--project', join(checkout, 'src'), '--outDir', join(directory, 'dist')]
  const main = join(directory, 'dist/main.js')
  try {
    await promisify(execFile)(process.execPath, args)
  } catch (error) {
    // A type error does not keep the compiler from writing what it understood; a missing program does.
    await access(main)
    say(`the compiler found errors:\n${(error as { stdout?: string }).stdout ?? String(error)}`)
  }
  await copyFile(join(checkout, 'package.json'), join(directory, 'package.json'))
  await symlink(join(checkout, 'node_modules'), join(directory, 'node_modules')).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  })
  return main
}
