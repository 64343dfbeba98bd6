/**
 * The checks of `walrx check`, in the order in which they are shown. Their ids are stable: `--json` has them, and
 * docs/operations.md lists them.
 */

/** Headings of the output, in their order. */
export const checkGroups = ['Server', 'Slot', 'Storage', 'Keys', 'Machine'] as const

/** A heading of {@link checkGroups}. */
export type CheckGroup = (typeof checkGroups)[number]

/** By id: what is looked at, for the documentation. The part before the dot is the group. */
export const checkTable = {
  'server.settings': 'the connection string, service and `PG*` variables, and whether the options fit each other',
  'server.hosts': 'every host of a list answers',
  'server.connection': 'a replication connection: address, TLS, password, `pg_hba.conf`, `REPLICATION`',
  'server.sql': 'an ordinary connection, which is optional',
  'server.version': 'PostgreSQL 14 or later',
  'server.standby': 'the server is a primary, unless `--allow-standby` is given',
  'server.tls': 'TLS, where the server is on another machine',
  'server.role': 'the role: `REPLICATION`, `VALID UNTIL`, connection limit',
  'server.privileges': '`pg_monitor`, which shows more of the slot and of plans',
  'server.wal_level': '`wal_level` is `replica` or `logical`',
  'server.max_wal_senders': 'walsenders are free for a receiver and a backup',
  'server.wal_sender_timeout': '`wal_sender_timeout` is neither 0 nor very short',
  'server.timeouts': 'no `statement_timeout`, `idle_session_timeout` or `transaction_timeout` ends our sessions',
  'server.synchronous': '`synchronous_standby_names` and `synchronous_commit` fit `--synchronous`',
  'server.summarize_wal': '`summarize_wal` and `wal_summary_keep_time`, where deltas are asked for',
  'server.full_page_writes': '`full_page_writes` is on',
  'server.fsync': '`fsync` is on',
  'server.data_checksums': 'data pages have checksums',
  'server.archive_mode': '`archive_mode` and `archive_command` do not keep WAL for ever',
  'server.clock': 'the clocks of the server and of this machine agree',
  'slot.free': '`max_replication_slots` leaves one for walrx',
  'slot.state': 'the slot is physical, and keeps its WAL',
  'slot.use': 'nobody else uses the slot',
  'slot.lag': 'how much WAL the slot keeps',
  'slot.limit': '`max_slot_wal_keep_size` against the disk and the segments',
  'slot.idle_timeout': '`idle_replication_slot_timeout` is off, or a day at least',
  'slot.wal_keep_size': '`wal_keep_size`, where `--slotless` is given',
  'storage.settings': 'the archive is named, by settings that fit each other',
  'storage.list': 'the archive can be listed',
  'storage.put': 'an object can be stored',
  'storage.get': 'it is read back as it was written',
  'storage.conditional_put': 'the store refuses to replace an object with `If-None-Match: *`',
  'storage.listing': 'listings begin after any key, and their pages are complete',
  'storage.multipart': 'a multipart upload',
  'storage.abort': 'unfinished uploads can be listed and aborted',
  'storage.delete': 'an object can be removed',
  'storage.versions': 'whether the bucket keeps versions',
  'storage.object_lock': 'whether new objects are locked',
  'storage.clock': 'the clocks of the store and of this machine agree',
  'storage.space': 'free space and inodes of a directory',
  'storage.durability': 'the file system of a directory keeps what was synced',
  'storage.device': 'a directory is not on the file system of the data directory',
  'storage.cluster': 'the archive belongs to this cluster, or to none yet',
  'storage.deep': 'with `--deep`: an object as large as a segment, written and read back',
  'keys.usable': 'the keys can be read, and open what they encrypt',
  'keys.archive': 'the keys fit the newest objects of the archive',
  'machine.node': 'the version of Node.js',
  'machine.open_files': 'the limit of open files',
  'machine.memory': 'the memory limit, against `--memory`',
  'machine.status_port': 'the address of the status page is free',
} as const satisfies Record<string, string>

/** An id of {@link checkTable}. */
export type CheckId = keyof typeof checkTable

/** All ids, in the order of the table. */
export const checkIds = Object.keys(checkTable) as CheckId[]

/** The group of a check. */
export function groupOf(id: CheckId): CheckGroup {
  const name = id.slice(0, id.indexOf('.'))
  return checkGroups.find((group) => group.toLowerCase() === name) as CheckGroup
}
