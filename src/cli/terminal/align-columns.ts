/** Tables for people, without lines: columns as wide as they must be. */

/**
 * Rows as lines, each ended. Columns are as wide as their widest cell, with `gap` between them; the last one is not
 * filled up.
 */
export function alignColumns(rows: readonly (readonly string[])[], gap: string): string {
  const columns = Math.max(0, ...rows.map((row) => row.length))
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0)),
  )
  const lines = rows.map((row) => {
    return row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join(gap)
  })
  return lines.map((line) => `${line}\n`).join('')
}
