import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { commandTable } from '../../../src/config/commands.ts'
import { optionsOf } from '../../../src/config/load.ts'
import { type CommandName, type OptionSpec, optionGroups } from '../../../src/config/options/option-types.ts'
import { parseOptionText } from '../../../src/config/options/option-values.ts'
import { optionTable } from '../../../src/config/options/options.ts'
import { optionNames, spellings } from '../../../src/config/setting-names.ts'
import { walgSettings } from '../../../src/config/walg-settings.ts'

const rows = Object.entries<OptionSpec>(optionTable)

describe('the option table', () => {
  test('every default is a value of its own type', () => {
    for (const [key, spec] of rows) {
      if (spec.default !== undefined) assert.ok('value' in parseOptionText(spec.type, spec.default), key)
    }
  })

  test('no two options of a command share a flag, a letter or a variable', () => {
    for (const command of Object.keys(commandTable) as CommandName[]) {
      const seen = new Map<string, string>()
      for (const [key, spec] of optionsOf(command)) {
        const names = [
          ...optionNames(spec.env),
          ...(spec.flag ? [`--${spec.flag}`] : []),
          ...(spec.alias ? [`-${spec.alias}`] : []),
        ]
        for (const name of names) {
          assert.equal(seen.get(name), undefined, `${name} of ${key} and ${seen.get(name)}, of ${command}`)
          seen.set(name, key)
        }
      }
    }
  })

  test('no two options are set by one variable', () => {
    const names = rows.flatMap(([, spec]) => optionNames(spec.env))
    assert.deepEqual(
      names.filter((name, index) => names.indexOf(name) !== index),
      [],
    )
  })

  test('every option can be given somehow, and secrets never by a flag', () => {
    for (const [key, spec] of rows) {
      assert.ok(spec.env.length > 0 || spec.flag !== undefined, key)
      if (spec.secret) assert.equal(spec.flag, undefined, key)
      if (/secret|password|token|sse_?c$/i.test(key)) assert.equal(spec.secret, true, key)
    }
  })

  test('names have the form of their kind, and none collides with help and version', () => {
    for (const [key, spec] of rows) {
      for (const name of spec.env)
        assert.match(
          name,
          /^((WALG|WALRX|PG|AWS|S3)[A-Z0-9_]+|GPG_KEY_ID|TOTAL_BG_UPLOADED_LIMIT|(HTTPS?|NO)_PROXY|(https?|no)_proxy)$/,
          key,
        )
      if (spec.flag) assert.match(spec.flag, /^(?!no-|help$|version$)[a-z0-9]+(-[a-z0-9]+)*$/, key)
      if (spec.alias) assert.match(spec.alias, /^[^hV]$/, key)
    }
  })

  test('every flag says what its value is called, but for switches, which have none', () => {
    for (const [key, spec] of rows) {
      const hasValue = spec.flag !== undefined && spec.type.kind !== 'boolean'
      if (hasValue) assert.match(spec.valueName ?? '', /^(s3:\/\/)?[A-Z][^a-z\s]*$/, key)
      else assert.equal(spec.valueName, undefined, key)
    }
  })

  test('help is one line without a full stop, in a known group', () => {
    for (const [key, spec] of rows) {
      assert.match(spec.help, /^[^\n]*[^\n.]$/, key)
      assert.ok(optionGroups.includes(spec.group), key)
      assert.ok(spec.commands.length > 0, key)
    }
  })
})

describe("the table of WAL-G's other settings", () => {
  test('has no name twice, and none that is an option', () => {
    const options = new Set(rows.flatMap(([, spec]) => optionNames(spec.env)))
    const seen = new Set<string>()
    for (const name of walgSettings.flatMap((row) => row.names).flatMap(spellings)) {
      assert.ok(!seen.has(name), `${name} twice`)
      assert.ok(!options.has(name), `${name} is an option`)
      seen.add(name)
    }
  })

  test('every reason completes the sentence, without a full stop', () => {
    for (const row of walgSettings) assert.match(row.reason, /^[a-z][^\n]*[^\n.]$/)
  })
})
