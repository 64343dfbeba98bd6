#!/bin/sh
# Runs once, when the server's data directory is made: a role for walrx, and the line that lets it in.
set -eu
psql --username "$POSTGRES_USER" --set ON_ERROR_STOP=1 --command "create role walrx login replication password 'quick-start'"
echo 'host replication walrx all scram-sha-256' >> "$PGDATA/pg_hba.conf"
