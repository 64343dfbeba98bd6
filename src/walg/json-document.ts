/** Reads WAL-G's small JSON documents as tolerantly as Go does, and reports the wrong field with its object. */
import { WalrxError } from '../primitives/errors.ts'
import { jsonBigint, type JsonValue, parseJson } from '../primitives/json/json.ts'
import { type Lsn, toLsn } from '../postgres/lsn.ts'

/** An object of JSON. */
export type JsonObject = { readonly [key: string]: JsonValue }

/** One for all: each has memory outside of the heap until it is collected, and a list reads thousands of documents. */
const decoder = new TextDecoder('utf-8', { fatal: true })

/** Highest value of 64 bits. */
const u64Max = 0xffffffffffffffffn

/** True for an object, which null and arrays are not. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/**
 * The fields of one document, each taken once. A key matches in any case, as in Go, where one in the right case goes
 * before; null is the same as none.
 */
export class JsonDocument {
  /** Key of the object in the storage, for messages. */
  readonly #key: string
  readonly #fields: Map<string, JsonValue>

  /** @throws WALRX_OBJECT_DAMAGED where `value` is no object */
  constructor(value: JsonValue, key: string) {
    if (!isJsonObject(value)) throw new WalrxError('WALRX_OBJECT_DAMAGED', `${key} is not a JSON object`)
    this.#key = key
    this.#fields = new Map(Object.entries(value))
  }

  /** Parses bytes. Throws WALRX_OBJECT_DAMAGED for what is not a JSON object in UTF-8. */
  static parse(bytes: Uint8Array, key: string): JsonDocument {
    try {
      return new JsonDocument(parseJson(decoder.decode(bytes)), key)
    } catch (error) {
      if (error instanceof WalrxError) throw error
      throw new WalrxError('WALRX_OBJECT_DAMAGED', `${key} is not JSON: ${(error as Error).message}`, { cause: error })
    }
  }

  /** Takes any value; undefined for null and none. */
  take(name: string): JsonValue | undefined {
    const key = this.#fields.has(name) ? name : [...this.#fields.keys()].find((each) => isSame(each, name))
    if (key === undefined) return undefined
    const value = this.#fields.get(key)
    this.#fields.delete(key)
    return value ?? undefined
  }

  /** Takes whatever somebody wrote there, in a form that can be written again. */
  any(name: string): JsonValue | undefined {
    const value = this.take(name)
    return value === undefined ? undefined : writable(value)
  }

  /** Takes text. */
  text(name: string): string | undefined {
    const value = this.take(name)
    if (value === undefined || typeof value === 'string') return value
    throw this.wrong(name, value, 'text')
  }

  /** Takes true or false; none is false. */
  flag(name: string): boolean {
    const value = this.take(name)
    if (value === undefined || typeof value === 'boolean') return value ?? false
    throw this.wrong(name, value, 'true or false')
  }

  /** Takes a whole number of 64 bits without a sign. */
  u64(name: string): bigint | undefined {
    const value = this.take(name)
    if (value === undefined) return undefined
    const number = jsonBigint(value)
    if (number !== undefined && number >= 0n && number <= u64Max) return number
    throw this.wrong(name, value, 'a whole number of 64 bits')
  }

  /** Takes a whole number that JavaScript holds exactly, like a size in bytes; none is undefined. */
  count(name: string): number | undefined {
    const value = this.take(name)
    if (value === undefined || (typeof value === 'number' && Number.isSafeInteger(value))) return value
    throw this.wrong(name, value, 'a whole number below 2^53')
  }

  /** Takes an LSN. Zero is none, as WAL-RUS has it. */
  lsn(name: string): Lsn | undefined {
    const number = this.u64(name)
    return number === undefined || number === 0n ? undefined : toLsn(number)
  }

  /** What was not taken, in a form that can be written again. */
  rest(): JsonObject {
    return Object.fromEntries([...this.#fields].map(([name, value]) => [name, writable(value)]))
  }

  /** The error for a field that is not what it must be. */
  wrong(name: string, value: JsonValue | undefined, must: string): WalrxError {
    const shown = String(JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? String(each) : each)))
    const short = shown.length > 60 ? `${shown.slice(0, 60)}…` : shown
    return new WalrxError('WALRX_OBJECT_DAMAGED', `${this.#key}: ${name} is ${short}, not ${must}`)
  }
}

function isSame(a: string, b: string): boolean {
  return a.length === b.length && a.toLowerCase() === b.toLowerCase()
}

/**
 * The same value, with numbers like 1e20 as bigints: they are whole and exact, but a writer of numbers cannot know that
 * and refuses what is beyond 2^53.
 */
function writable(value: JsonValue): JsonValue {
  if (typeof value === 'number') {
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? BigInt(value) : value
  }
  if (Array.isArray(value)) return (value as readonly JsonValue[]).map(writable)
  if (!isJsonObject(value)) return value
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, writable(each)]))
}
