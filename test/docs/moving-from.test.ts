import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { checkArguments } from '../../src/cli/arguments/arguments.ts'
import { parsePlain } from '../../src/cli/arguments/plain-arguments.ts'
import { commands } from '../../src/cli/command-loaders.ts'
import { repository } from '../lint/source-files.ts'

const read = (page: string) => readFileSync(join(repository, 'docs', page), 'utf8')

/** Commands and options of pgBackRest 2.59.1, by its build/config.yaml. */
const ofPgBackRest = `
allow-root annotate annotation archive-async archive-check archive-copy archive-expire-before archive-get
archive-get-queue-max archive-header-check archive-missing-retry archive-mode archive-mode-check archive-push
archive-push-batch-size archive-push-queue-max archive-timeout backup backup-standby beta buffer-size check
checksum-page cmd cmd-ssh compress compress-level compress-level-network compress-type config
config-include-path config-path db-exclude db-include db-timeout delta detail-level dry-run exclude exec-id
expire expire-auto filter force help ignore-missing info io-timeout job-retry job-retry-interval link-all
link-map lock lock-path log-level-console log-level-file log-level-stderr log-path log-subprocess
log-timestamp manifest manifest-save-threshold neutral-umask oldest online output page-header-check pg
pg-database pg-host pg-host-ca-file pg-host-ca-path pg-host-cert-file pg-host-cmd pg-host-config
pg-host-config-include-path pg-host-config-path pg-host-key-file pg-host-port pg-host-type pg-host-user
pg-local pg-path pg-port pg-socket-path pg-user pg-version-force priority process process-max protocol-timeout
raw recovery-option recurse reference remote-type repo repo-azure-account repo-azure-container
repo-azure-endpoint repo-azure-key repo-azure-key-type repo-azure-uri-style repo-block repo-block-age-map
repo-block-checksum-size-map repo-block-size-map repo-block-size-super repo-block-size-super-full repo-bundle
repo-bundle-limit repo-bundle-size repo-cipher-pass repo-cipher-type repo-gcs-bucket repo-gcs-endpoint
repo-gcs-key repo-gcs-key-type repo-gcs-user-project repo-get repo-hardlink repo-host repo-host-ca-file
repo-host-ca-path repo-host-cert-file repo-host-cmd repo-host-config repo-host-config-include-path
repo-host-config-path repo-host-key-file repo-host-port repo-host-type repo-host-user repo-local repo-ls
repo-path repo-retention-archive repo-retention-archive-type repo-retention-diff repo-retention-full
repo-retention-full-type repo-retention-history repo-rm repo-s3-bucket repo-s3-endpoint repo-s3-key
repo-s3-key-secret repo-s3-key-type repo-s3-kms-key-id repo-s3-process-cmd repo-s3-region
repo-s3-requester-pays repo-s3-role repo-s3-service repo-s3-sse-customer-key repo-s3-sts-host repo-s3-token
repo-s3-uri-style repo-sftp-host repo-sftp-host-fingerprint repo-sftp-host-key-check-type
repo-sftp-host-key-hash-type repo-sftp-host-port repo-sftp-host-user repo-sftp-known-host
repo-sftp-private-key-file repo-sftp-private-key-passphrase repo-sftp-public-key-file repo-storage-ca-file
repo-storage-ca-path repo-storage-host repo-storage-port repo-storage-prefetch repo-storage-read-over
repo-storage-tag repo-storage-upload-chunk-size repo-storage-verify-tls repo-symlink repo-target-time
repo-type report restore resume sck-block sck-keep-alive server server-ping set sort spool-path stanza
stanza-create stanza-delete stanza-upgrade start start-fast stop stop-auto tablespace-map tablespace-map-all
target target-action target-exclusive target-timeline tcp-keep-alive-count tcp-keep-alive-idle
tcp-keep-alive-interval tls-cipher-12 tls-cipher-13 tls-server-address tls-server-auth tls-server-ca-file
tls-server-cert-file tls-server-key-file tls-server-port type verbose verify version
`

/** Commands and settings of Barman 3.17, by its user guide. */
const ofBarman = `
archive-wal backup check check-backup config-switch config-update cron delete diagnose generate-manifest
get-wal keep list-backups list-files list-processes list-servers lock-directory-cleanup put-wal rebuild-xlogdb
receive-wal recover replication-status restore show-backup show-servers status switch-wal switch-xlog
sync-backup sync-info sync-wals terminate-process verify verify-backup  active archiver archiver_batch_size
autogenerate_manifest aws_await_snapshots_timeout aws_profile aws_region aws_snapshot_lock_cool_off_period
aws_snapshot_lock_duration aws_snapshot_lock_expiration_date aws_snapshot_lock_mode azure_credential
azure_resource_group azure_subscription_id backup_compression backup_compression_format
backup_compression_level backup_compression_location backup_compression_workers backup_directory backup_method
backup_options bandwidth_limit barman_home barman_lock_directory basebackup_retry_sleep basebackup_retry_times
basebackups_directory check_timeout cluster combine_mode compression compression_level config_changes_queue
configuration_files_directory conninfo create_slot custom_compression_filter custom_compression_magic
custom_decompression_filter description encryption encryption_key_id encryption_passphrase_command
errors_directory forward_config_path gcp_project gcp_zone immediate_checkpoint incoming_wals_directory
keepalive_interval last_backup_maximum_age last_backup_minimum_size last_wal_maximum_age local_staging_path
lock_directory_cleanup log_file log_level max_incoming_wals_queue minimum_redundancy model network_compression
parallel_jobs parallel_jobs_start_batch_period parallel_jobs_start_batch_size path_prefix
post_archive_retry_script post_archive_script post_backup_retry_script post_backup_script
post_delete_retry_script post_delete_script post_recovery_retry_script post_recovery_script
post_wal_delete_retry_script post_wal_delete_script pre_archive_retry_script pre_archive_script
pre_backup_retry_script pre_backup_script pre_delete_retry_script pre_delete_script pre_recovery_retry_script
pre_recovery_script pre_wal_delete_retry_script pre_wal_delete_script primary_checkpoint_timeout
primary_conninfo primary_ssh_command recovery_options recovery_staging_path retention_policy
retention_policy_mode reuse_backup slot_name snapshot_disks snapshot_instance snapshot_provider ssh_command
staging_location staging_path streaming_archiver streaming_archiver_batch_size streaming_archiver_name
streaming_backup_name streaming_conninfo streaming_wals_directory tablespace_bandwidth_limit wal_conninfo
wal_retention_policy wal_streaming_conninfo wals_directory worm_mode xlogdb_directory
`

for (const [page, names] of [
  ['from-pgbackrest.md', ofPgBackRest],
  ['from-barman.md', ofBarman],
] as const) {
  test(`docs/${page} has a line for each command and setting`, () => {
    const inCode = new Set([...read(page).matchAll(/`([a-z0-9_-]+)/g)].map(([, name = '']) => name))
    const missing = names
      .trim()
      .split(/\s+/)
      .filter((name) => !inCode.has(name))
    assert.deepEqual(missing, [])
  })
}

for (const page of ['from-walg.md', 'from-pgbackrest.md', 'from-barman.md']) {
  test(`what docs/${page} has of walrx can be typed`, async () => {
    const text = read(page)
    const blocks = [...text.matchAll(/^ *```sh\n([^]*?)^ *```$/gm)].map(([, lines = '']) => lines).join('')
    const inBlocks = blocks.matchAll(/^ *walrx (?!--)(.+)$/gm)
    const calls = [...inBlocks, ...text.matchAll(/`walrx (?!--)([^`\n|]+)`/g)].map(([, call = '']) => call)
    assert.ok(calls.length > 15)
    for (const call of calls) {
      const [name = '', ...args] = call.match(/'[^']*'|\S+/g) ?? []
      const command = await Object.entries(commands)
        .find(([each]) => each === name)?.[1]
        .load()
      assert.ok(command, call)
      const words = args.map((word) => word.replaceAll("'", ''))
      // The names of commands stand for themselves, without what they need.
      if (words.length > 0 && words[0] !== '--help') checkArguments(command, parsePlain(command, words))
    }
  })
}
