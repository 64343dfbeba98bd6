/** The mounts that this process sees, by Linux; elsewhere nothing says them. */
import { readFile } from 'node:fs/promises'

/** A mount of a file system, or of a part of one. */
export interface Mount {
  /** `8:1` */
  readonly device: string
  /** Path within the file system; of a bind mount that of what it shows. */
  readonly root: string
  /** The mount point: a directory, or a file. */
  readonly at: string
}

/** Reads them from /proc/self/mountinfo (proc_pid_mountinfo(5)); empty where there is none. */
export async function readMounts(): Promise<Mount[]> {
  return parseMounts(await readFile('/proc/self/mountinfo', 'utf8').catch(() => ''))
}

/** Reads the text of such a file. */
export function parseMounts(text: string): Mount[] {
  const unescaped = (word: string) =>
    // Each escape is a byte of a name.
    Buffer.from(
      Buffer.from(word, 'utf8')
        .toString('latin1')
        .replace(/\\(\d{3})/g, (_, code: string) => String.fromCharCode(parseInt(code, 8))),
      'latin1',
    ).toString()
  return text.split('\n').flatMap((line) => {
    const [, , device = '', root, at] = line.split(' ')
    return root === undefined || at === undefined ? [] : [{ device, root: unescaped(root), at: unescaped(at) }]
  })
}
