/** A duration for people, in one unit: `90 s`, `5 min`, `3 h`, `4 days`. */
export function durationText(seconds: number): string {
  if (!Number.isFinite(seconds)) return 'an unknown time'
  if (Math.round(seconds) < 120) return `${Math.round(seconds)} s`
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`
}
