/**
 * The directory under which this test process keeps its servers, and the guarantee that nothing of it outlives the
 * process, however it ends.
 */
import { spawn } from 'node:child_process'
import { chmodSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

let root: string | undefined
let directoryCount = 0

/**
 * A new directory of this process's own, not yet made. Everyone may traverse its parent, because the servers run as
 * another user where the tests run as root. A server's data directory must be `<it>/data` to be cleaned up.
 */
export function newServerDirectory(label: string): string {
  root ??= openWorkspace()
  directoryCount++
  return join(root, `${label}-${directoryCount}`)
}

function openWorkspace(): string {
  const directory = mkdtempSync(join(tmpdir(), `walrx-test-${process.pid}-`))
  chmodSync(directory, 0o755)
  startWatchdog(directory)
  return directory
}

/**
 * A shell that holds the other end of a pipe: when this process is gone, by whatever cause (SIGKILL included), its
 * read ends, and it stops every server below the directory and removes it. A postmaster is known by its working
 * directory, so that a recycled process id hurts nobody.
 */
const watchdogScript = `
cat >/dev/null
ours() { [ -n "$2" ] && [ "$(readlink "/proc/$2/cwd")" = "$1" ]; }
for data in "$1"/*/data; do
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
  ours "$data" "$pid" && kill -QUIT "$pid"
done
for data in "$1"/*/data; do
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null)
  turn=0
  while ours "$data" "$pid" && [ "$turn" -lt 100 ]; do sleep 0.1; turn=$((turn + 1)); done
  ours "$data" "$pid" && kill -KILL "$pid"
done
rm -rf "$1"
`

function startWatchdog(directory: string): void {
  const watchdog = spawn('/bin/sh', ['-c', watchdogScript, 'walrx-test-watchdog', directory], {
    stdio: ['pipe', 'ignore', 'ignore'],
    // Its own session: the interrupt key must reach the tests, not what cleans up after them.
    detached: true,
    cwd: '/',
  })
  watchdog.unref()
  const pipe: unknown = watchdog.stdin
  ;(pipe as { unref(): void }).unref()
}
