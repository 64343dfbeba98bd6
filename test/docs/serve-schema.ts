/** docs/walrx-serve.schema.json, from the table of the configuration. `npm run docs` writes it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { format } from 'prettier'
import { jsonSchema } from '../../src/serve/configuration/json-schema.ts'
import { repository } from '../lint/source-files.ts'

/** Path of the schema. */
export const schemaFile = join(repository, 'docs', 'walrx-serve.schema.json')

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(schemaFile, await format(JSON.stringify(jsonSchema()), { parser: 'json', printWidth: 120 }))
}
