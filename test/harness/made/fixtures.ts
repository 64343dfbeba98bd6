/**
 * Whole archives that WAL-G and WAL-RUS really wrote, each in a folder with the settings of its writer, what a restore of
 * each backup is to make, and the rows that are there after a recovery. Some are in test/golden; all of them are where
 * `WALRX_TEST_FIXTURES` says, packed as `NAME.tar.zst` or not.
 */
import { execFile } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { isOpenPgpThere } from '../crypto/encryption-rows.ts'
import { type ExpectedRestore, expectedOf } from './golden-restores.ts'

/** Encrypted ones in test/golden. Their WAL begins with that of the last backup. */
export const encryptedGolden = [
  'walg-local-brotli-libsodium',
  'walg-local-lzma-openpgp',
  'walrus-local-lz4-libsodium',
] as const

/** Why a fixture cannot be read, or false. */
export function fixtureSkip(name: string): string | false {
  return name.endsWith('openpgp') && !isOpenPgpThere && 'walrx has no OpenPGP'
}

/** One archive. */
export class Fixture {
  readonly name: string
  readonly folder: string

  constructor(folder: string, name: string) {
    this.folder = join(folder, name)
    this.name = name
  }

  get archive(): string {
    return join(this.folder, 'archive')
  }

  /** What its writer ran with. */
  get settings(): Record<string, string> {
    const lines = readFileSync(join(this.folder, 'settings.env'), 'utf8').trim().split('\n')
    const settings = Object.fromEntries(lines.map((line) => line.split(/=(.*)/s).slice(0, 2))) as Record<string, string>
    const { WALG_PGP_KEY_PATH: key } = settings
    return key === undefined ? settings : { ...settings, WALG_PGP_KEY_PATH: join(this.folder, key) }
  }

  /** Names of its backups, the full one first. */
  get backups(): string[] {
    const suffix = '_backup_stop_sentinel.json'
    const names = readdirSync(join(this.archive, 'basebackups_005')).filter((name) => name.endsWith(suffix))
    return names.map((name) => name.slice(0, -suffix.length)).sort()
  }

  /** What a restore of a backup makes. */
  expected(backup: string): ExpectedRestore {
    return expectedOf(this.folder, backup)
  }

  /** Where a backup's tablespace was. */
  tablespace(backup: string): string {
    const sentinel = join(this.archive, `basebackups_005/${backup}_backup_stop_sentinel.json`)
    return /"loc":"([^"]*)"/.exec(readFileSync(sentinel, 'utf8'))?.[1] ?? ''
  }

  /** Lines of tables, counts and sums after recovery. */
  get rows(): string[] {
    return readFileSync(join(this.folder, 'rows.txt'), 'utf8').trim().split('\n')
  }
}

/** Those in test/golden that are encrypted. */
export function goldenFixtures(): Fixture[] {
  const folder = fileURLToPath(new URL('../../golden', import.meta.url))
  return encryptedGolden.map((name) => new Fixture(folder, name))
}

/** Where the whole fixtures are; undefined where nothing says so. */
export const fixturesFolder = process.env['WALRX_TEST_FIXTURES']

/** Names of the whole fixtures, without unpacking them. */
export function wholeFixtureNames(): string[] {
  if (fixturesFolder === undefined) return []
  const entries = readdirSync(fixturesFolder, { withFileTypes: true })
  const names = entries.flatMap((entry) => {
    if (entry.isDirectory()) return [entry.name]
    return entry.name.endsWith('.tar.zst') ? [entry.name.slice(0, -'.tar.zst'.length)] : []
  })
  return [...new Set(names)].sort()
}

/** @param to an own folder, where a packed one is unpacked */
export async function openWholeFixture(name: string, to: string): Promise<Fixture> {
  const from = fixturesFolder ?? ''
  if (existsSync(join(from, name))) return new Fixture(from, name)
  await mkdir(to, { recursive: true })
  await promisify(execFile)('tar', ['-I', 'zstd', '-xf', join(from, `${name}.tar.zst`), '-C', to])
  return new Fixture(to, name)
}
