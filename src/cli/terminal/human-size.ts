/** Sizes and counts for people. */

const units = ['kB', 'MB', 'GB', 'TB', 'PB'] as const

/** A size in bytes with about three digits, in powers of 1024 as PostgreSQL's pg_size_pretty: `9.3 MB`. */
export function humanSize(bytes: number): string {
  if (bytes < 1024) return counted(bytes, 'byte')
  let size = bytes / 1024
  let unit = 0
  while (size >= 1023.95 && unit < units.length - 1) {
    size /= 1024
    unit++
  }
  return `${size < 100 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`
}

/** A count with its noun, whose plural has an s more: `1 backup`, `0 backups`. */
export function counted(count: number | bigint, noun: string): string {
  return `${count} ${noun}${count === 1 || count === 1n ? '' : 's'}`
}
