/** What the lock file must say so that a checkout works where npm runs on another Node than walrx. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

interface LockedPackage {
  readonly optional?: boolean
  readonly dev?: boolean
  readonly engines?: { readonly node?: string }
  /** Only packages of native code have it. */
  readonly os?: readonly string[]
}

test('no native library is left out because of the Node that runs npm: walrx runs on that of the development dependencies', () => {
  const lock = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as {
    readonly packages: Readonly<Record<string, LockedPackage>>
  }
  // npm leaves an optional package out, in silence, when its engines do not fit. After an update by npm, remove the field.
  const leftOut = Object.entries(lock.packages)
    .filter(
      ([, { dev, engines, optional, os }]) => optional && os && !dev && /\^22|>=\s*2[2-9]/.test(engines?.node ?? ''),
    )
    .map(([path]) => path)
  assert.deepEqual(leftOut, [])
})
