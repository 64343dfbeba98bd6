/** The JSON schema of a configuration, from the table that it is read by: for editors, and for `walrx serve --schema`. */
import {
  clusterKeys,
  clusterNamePattern,
  environmentHelp,
  environmentKey,
  fileEnding,
  type KeyShape,
  sections,
  topKeys,
  type ValueType,
} from './shape.ts'

/** A JSON value of a schema. */
export type SchemaNode = Readonly<Record<string, unknown>>

/** Values with `${NAME}` are anything until the variable is known. */
const reference = { type: 'string', pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}' }

const scheduleText = {
  type: 'string',
  description: 'five fields of cron, six with seconds first, a nickname such as @daily, or off',
  examples: ['30 2 * * *', '0 3 * * sun', '@daily', 'off'],
}

/** The schema, of draft 2020-12. */
export function jsonSchema(): SchemaNode {
  const cluster = { $ref: '#/$defs/cluster' }
  const tops = [...topKeys].map(([name, shape]) => [name, valueSchema(shape)] as const)
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'Configuration of walrx serve',
    ...map({
      ...Object.fromEntries(tops),
      defaults: { description: 'what every cluster has that does not say otherwise', ...cluster },
      clusters: {
        description: 'the clusters, by their names: labels of metrics and fields of the log',
        type: 'object',
        minProperties: 1,
        propertyNames: { pattern: clusterNamePattern.source },
        additionalProperties: cluster,
      },
    }),
    required: ['clusters'],
    $defs: { cluster: orNothing(map({ ...clusterProperties() })) },
  }
}

function clusterProperties(): Record<string, SchemaNode> {
  const own = [...clusterKeys].map(([name, shape]) => [name, valueSchema(shape)] as const)
  const parts = [...sections].map(([name, { help, keys }]) => {
    const values = [...keys].flatMap(([key, shape]) => withFile(key, shape, keys))
    return [name, orNothing({ description: help, ...map(Object.fromEntries(values)) })] as const
  })
  const variables = orNothing({
    description: environmentHelp,
    type: 'object',
    propertyNames: { pattern: '^[A-Za-z_][A-Za-z0-9_]*$' },
    additionalProperties: { type: ['string', 'number', 'boolean'] },
  })
  return { ...Object.fromEntries(own), ...Object.fromEntries(parts), [environmentKey]: variables }
}

/** A key, and the one that names a file with its value. */
function withFile(key: string, shape: KeyShape, keys: ReadonlyMap<string, KeyShape>): [string, SchemaNode][] {
  const own: [string, SchemaNode] = [key, valueSchema(shape)]
  const file = `${key}${fileEnding}`
  if (shape.option === undefined || keys.has(file)) return [own]
  return [own, [file, { type: 'string', description: `path of a file with the value of ${key}` }]]
}

/** A map that has these keys and no others. */
function map(properties: Readonly<Record<string, SchemaNode>>): SchemaNode {
  return { type: 'object', additionalProperties: false, properties }
}

/** A map that may also be left empty, as when all its lines are comments. */
function orNothing(schema: SchemaNode): SchemaNode {
  return { ...schema, type: ['object', 'null'] }
}

function valueSchema({ defaultText, help, type }: KeyShape): SchemaNode {
  const text = defaultText === undefined ? help : `${help} (default: ${defaultText})`
  return { description: text, ...typeSchema(type) }
}

function typeSchema(type: ValueType): SchemaNode {
  switch (type.kind) {
    case 'schedule':
      return { anyOf: [scheduleText, { type: 'array', items: scheduleText, minItems: 1 }] }
    case 'boolean':
      return { anyOf: [{ type: 'boolean' }, { enum: ['true', 'false', 'yes', 'no', 'on', 'off'] }, reference] }
    case 'integer':
      return { anyOf: [{ type: 'integer', minimum: type.min, maximum: type.max }, reference] }
    case 'number':
      return { anyOf: [{ type: 'number', minimum: type.min, maximum: type.max }, reference] }
    case 'choice':
      return { anyOf: [{ enum: [...type.values, ...Object.keys(type.synonyms ?? {})] }, reference] }
    case 'bytes':
      return { type: ['string', 'integer'], examples: ['64MB', '2GB'] }
    case 'duration':
      return { type: ['string', 'integer'], examples: ['15s', '1h30m', '14d'] }
    case 'time zone':
      return { type: 'string', examples: ['UTC', 'Europe/Zurich'] }
    default:
      return { type: ['string', 'number', 'boolean'] }
  }
}
