import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { hasCode } from '../../../src/primitives/errors.ts'
import { openWalFileCheck } from '../../../src/restore/wal/wal-file-check.ts'
import { madeSegmentSize, makeHistory, makeSegment } from '../../harness/made/made-wal.ts'

/** Checks content that arrives in two chunks. */
function judge(name: string, content: Uint8Array | string): void {
  const bytes = Buffer.from(content as Uint8Array)
  const check = openWalFileCheck({ name })
  check.write(bytes.subarray(0, 10))
  check.write(bytes.subarray(10))
  check.finish()
}

const refuses = (name: string, content: Uint8Array | string, message: RegExp) =>
  assert.throws(
    () => judge(name, content),
    (error) => hasCode(error, 'WALRX_OBJECT_DAMAGED') && message.test(error.message),
    `${name}: ${String(message)}`,
  )

describe('a history file', () => {
  test('passes with its ancestors, comments and empty lines', () => {
    judge('00000002.history', makeHistory(2))
    judge('00000003.history', makeHistory(3))
    judge('00000007.history', `# a comment\n\n${makeHistory(3)}`)
  })

  test('is refused when it is empty, no history file, or of a timeline that is not newer than its ancestors', () => {
    refuses('00000002.history', '', /00000002\.history is empty/)
    refuses('00000002.history', '# nothing here\n', /names no ancestor timeline/)
    refuses('00000002.history', 'garbage, more than ten bytes of it', /has an invalid line/)
    refuses('00000002.history', '1\t0/123456789\tLSN too long\n', /invalid line: "1 0\/123456789 LSN too long"/)
    refuses('00000002.history', makeHistory(3), /names timeline 2 as an ancestor of timeline 2/)
    refuses('00000003.history', '2\t0/1\tx\n1\t0/2\ty\n', /lists timeline 1 after 2/)
    refuses('00000002.history', Buffer.alloc(1024 * 1024 + 1, '#'), /more than 1048576 bytes/)
  })
})

describe('a partial', () => {
  const name = '000000010000000000000005.partial'
  const segment = makeSegment('000000010000000000000005')

  test('passes whole or incomplete, with any bytes after its first page', () => {
    judge(name, segment)
    judge(name, segment.subarray(0, 9000))
    judge(name, Buffer.concat([segment.subarray(0, 8192), Buffer.alloc(madeSegmentSize - 8192, 'old')]))
  })

  test('is refused when it is longer than a segment, or does not start with a first page', () => {
    refuses(name, Buffer.concat([segment, Buffer.alloc(1)]), /has 1048577 bytes, more than a segment of 1048576/)
    refuses(name, segment.subarray(0, 39), /does not start/)
    refuses(name, Buffer.alloc(madeSegmentSize), /does not start/)
  })
})

test('a backup label may be any text but an empty one', () => {
  judge('000000010000000000000005.00000028.backup', 'START WAL LOCATION: 0/5000028\n')
  refuses('000000010000000000000005.00000028.backup', '', /is empty/)
})

test('an invalid name of a WAL file is a usage error', () => {
  for (const name of ['', 'x', '00000001000000000000000g', '../etc/passwd', '1.history']) {
    assert.throws(
      () => openWalFileCheck({ name }),
      (error) => hasCode(error, 'WALRX_USAGE'),
      name,
    )
  }
})
