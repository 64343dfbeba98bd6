/**
 * The keys of a listing, read without the SDK's parser of XML: it takes 20 ms for a page of a thousand keys, most of the
 * time of a long listing. What is not written as S3 does it is left to the SDK.
 */

/** An object, in the SDK's form. */
export interface ListedContents {
  readonly Key: string
  readonly LastModified: Date
  readonly Size: number
}

/** A page's objects, and the answer without them. */
export interface ListingAnswer {
  readonly contents: readonly ListedContents[]
  readonly rest: Buffer
}

const [opening, closing] = ['<Contents>', '</Contents>']

/** Takes an answer of ListObjectsV2 apart; undefined for one that is written in another way. */
export function takeContents(bytes: Buffer): ListingAnswer | undefined {
  const text = bytes.toString('utf8')
  // Comments and CDATA sections may hold anything.
  if (text.includes('<!')) return undefined
  const contents: ListedContents[] = []
  let rest = ''
  let at = 0
  let time: { readonly text: string; readonly date: Date } | undefined
  for (let begin = text.indexOf(opening); begin >= 0; begin = text.indexOf(opening, at)) {
    const end = text.indexOf(closing, begin)
    if (end < 0) return undefined
    const [key, size, modified] = [
      element(text, 'Key', begin, end),
      element(text, 'Size', begin, end),
      element(text, 'LastModified', begin, end),
    ]
    // An entity is the SDK's to read.
    if (key === undefined || key.includes('&') || size === undefined || !/^\d{1,15}$/.test(size)) return undefined
    if (modified === undefined) return undefined
    if (time?.text !== modified) time = { text: modified, date: new Date(modified) }
    if (Number.isNaN(time.date.getTime())) return undefined
    contents.push({ Key: key, LastModified: time.date, Size: Number(size) })
    rest += text.slice(at, begin)
    at = end + closing.length
  }
  if (contents.length === 0) return undefined
  return { contents, rest: Buffer.from(rest + text.slice(at)) }
}

/** The text of an element that stands once between two places. */
function element(text: string, name: string, begin: number, end: number): string | undefined {
  const open = text.indexOf(`<${name}>`, begin)
  const start = open + name.length + 2
  if (open < 0 || start > end) return undefined
  const close = text.indexOf(`</${name}>`, start)
  return close < 0 || close > end ? undefined : text.slice(start, close)
}
