/** A server that archives by `walrx wal-push`, with the end of every call noted. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { zstdDecompressSync } from 'node:zlib'
import { openReadCodec } from '../../../src/compression/codecs.ts'
import { isSegmentName } from '../../../src/postgres/wal/wal-file.ts'
import { decodeStream } from '../../harness/made/codec-streams.ts'
import type { TestPostgres } from '../../harness/postgres/postgres.ts'
import type { FaultyS3 } from '../../harness/store/faulty-s3/faulty-s3.ts'

const main = fileURLToPath(new URL('../../../src/main.ts', import.meta.url))

/** Variables of an archive in a bucket. */
export function bucketEnvironment(store: FaultyS3): Record<string, string> {
  return {
    WALG_S3_PREFIX: `s3://${store.bucket}/archive`,
    AWS_ENDPOINT: store.endpoint,
    AWS_REGION: store.region,
    AWS_ACCESS_KEY_ID: store.accessKeyId,
    AWS_SECRET_ACCESS_KEY: store.secretAccessKey,
    AWS_S3_FORCE_PATH_STYLE: 'true',
  }
}

/** One call of the archive_command. */
export interface Call {
  readonly file: string
  readonly status: number
}

/** The script that PostgreSQL runs, and its notes. */
export class ArchiveCommand {
  readonly #notes: string
  readonly #errors: string
  readonly #script: string

  /**
   * Writes the script. A call that a test kills ends with 1: at 137 PostgreSQL would start its archiver again, at most once
   * in ten seconds.
   */
  constructor(directory: string, words: readonly string[], env: Readonly<Record<string, string>>) {
    this.#notes = join(directory, 'archive-calls')
    this.#errors = join(directory, 'archive-errors')
    this.#script = join(directory, 'archive.sh')
    // As for a user with a home, which the server's user may not have here.
    const cache = join(directory, 'compile-cache')
    mkdirSync(cache)
    chmodSync(cache, 0o777)
    const variables = Object.entries({ NODE_COMPILE_CACHE: cache, ...env }).map(
      ([name, value]) => `export ${name}='${value}'`,
    )
    const call = ["'" + process.execPath + "'", "'" + main + "'", ...words].join(' ')
    const lines = [
      '#!/bin/sh',
      ...variables,
      `${call} 2>> '${this.#errors}'`,
      'status=$?',
      `echo "$2 $status" >> '${this.#notes}'`,
      'test $status = 137 && exit 1',
      'exit $status',
    ]
    writeFileSync(this.#script, `${lines.join('\n')}\n`)
    chmodSync(this.#script, 0o755)
    // The server may be another user than the tests.
    for (const file of [this.#notes, this.#errors]) {
      writeFileSync(file, '')
      chmodSync(file, 0o666)
    }
  }

  /** For postgresql.conf. */
  get setting(): string {
    return `${this.#script} %p %f`
  }

  /** What the calls have written to standard error. */
  errors(): string {
    return readFileSync(this.#errors, 'utf8')
  }

  /** Every call that has ended, oldest first. */
  calls(): Call[] {
    const lines = readFileSync(this.#notes, 'utf8').split('\n').slice(0, -1)
    return lines.map((line) => {
      const [file = '', status = ''] = line.split(' ')
      return { file, status: Number(status) }
    })
  }
}

/** Process ids of the calls that are running. */
export async function runningCalls(word: string): Promise<number[]> {
  const pids: number[] = []
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const words = readFileSync(`/proc/${entry}/cmdline`, 'utf8').split('\0')
      if (words.includes(main) && words.includes(word)) pids.push(Number(entry))
    } catch {
      // It has ended.
    }
  }
  return pids
}

/** Names that still wait to be archived. */
export async function waiting(server: TestPostgres): Promise<string[]> {
  const names = await readdir(join(server.pgWal(), 'archive_status'))
  return names.filter((name) => name.endsWith('.ready'))
}

/**
 * Compares an archive in a bucket with the server's own WAL.
 * @returns what is wrong: names that are missing, there twice, or with other bytes; and how many were compared
 */
export async function compareBucket(
  store: FaultyS3,
  server: TestPostgres,
  names: readonly string[],
): Promise<{ readonly compared: number; readonly wrong: string[] }> {
  const forms = new Map<string, string[]>()
  const wrong: string[] = []
  for (const key of store.store.objects.keys()) {
    if (key.startsWith('archive/walrx_005/aside')) wrong.push(`${key} was set aside`)
    const [, name = '', extension = ''] = /^archive\/wal_005\/([0-9A-F]{24})(?:\.(\w+))?$/.exec(key) ?? []
    if (isSegmentName(name)) forms.set(name, [...(forms.get(name) ?? []), extension])
  }
  let compared = 0
  for (const name of names) {
    const found = forms.get(name) ?? []
    if (found.length !== 1) wrong.push(`${name} is there ${found.length} times: ${found.join()}`)
    const own = join(server.pgWal(), name)
    if (!existsSync(own)) wrong.push(`${name} is not in pg_wal any more`)
    for (const extension of found) {
      const { body } = store.store.objects.get(`archive/wal_005/${name}.${extension}`) ?? { body: Buffer.alloc(0) }
      const decoded = extension === 'zst' ? zstdDecompressSync(body) : await decodeStream(openReadCodec('lz4'), [body])
      if (!existsSync(own) || !decoded.equals(readFileSync(own))) wrong.push(`${name}.${extension} differs`)
      compared++
    }
  }
  return { compared, wrong }
}
