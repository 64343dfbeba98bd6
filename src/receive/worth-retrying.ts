/** Which failures of an archive may be over at the next attempt. */
import { hasCode } from '../primitives/errors.ts'

/** Whatever the storage says is tried again, for hours if need be; a contradiction or a defect is not. */
export function isWorthRetrying(error: unknown): boolean {
  return (
    hasCode(error, 'WALRX_STORAGE_UNAVAILABLE') ||
    hasCode(error, 'WALRX_STORAGE_DENIED') ||
    hasCode(error, 'WALRX_STORAGE_MISSING') ||
    hasCode(error, 'WALRX_OBJECT_NOT_FOUND')
  )
}
