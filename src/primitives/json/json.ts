/**
 * JSON with exact whole numbers. WAL-G writes system identifiers and LSNs as bare 64-bit numbers, which JSON.parse
 * rounds beyond 2^53. Node 22 passes the source text to a reviver and can write raw numbers, which is enough.
 */
import { WalrxError } from '../errors.ts'

/** A JSON value in which whole numbers beyond 2^53 are bigints. */
export type JsonValue =
  null | boolean | number | bigint | string | readonly JsonValue[] | { readonly [key: string]: JsonValue }

/** Functions that the installed @types lack (ECMAScript proposal "JSON.parse source text access"). */
interface SourceTextAccess {
  rawJSON(text: string): unknown
  parse(text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown): unknown
}

const sourceTextAccess = JSON as unknown as SourceTextAccess

/** Parses JSON text. Throws SyntaxError as JSON.parse does. */
export function parseJson(text: string): JsonValue {
  return sourceTextAccess.parse(text, (_key, value, { source }) => {
    const isWide =
      typeof value === 'number' && source !== undefined && /^-?\d+$/.test(source) && !Number.isSafeInteger(value)
    return isWide ? BigInt(source) : value
  }) as JsonValue
}

/** From here on JSON.stringify writes whole numbers with an exponent, which readers do not take for exact. */
const exponentFrom = 1e21

/**
 * Writes JSON text; bigints as bare numbers.
 * @throws WALRX_INTERNAL for numbers that have lost their value: NaN, infinities, whole ones beyond 2^53 that are not
 * bigints
 */
export function formatJson(value: JsonValue, indent?: number): string {
  const replace = (key: string, item: unknown): unknown => {
    if (typeof item === 'bigint') return sourceTextAccess.rawJSON(item.toString())
    if (typeof item === 'number' && isLossy(item)) {
      throw new WalrxError('WALRX_INTERNAL', `${item} under "${key}" cannot be written as JSON without loss`)
    }
    return item
  }
  return JSON.stringify(value, replace, indent)
}

function isLossy(number: number): boolean {
  if (!Number.isFinite(number)) return true
  return Number.isInteger(number) && !Number.isSafeInteger(number) && Math.abs(number) < exponentFrom
}

/** A whole number of either size as a bigint; undefined for anything else. */
export function jsonBigint(value: JsonValue | undefined): bigint | undefined {
  if (typeof value === 'bigint') return value
  return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : undefined
}
