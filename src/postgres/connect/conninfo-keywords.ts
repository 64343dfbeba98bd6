/** libpq's keywords (PQconninfoOptions in fe-connect.c), their environment variables, and how walrx treats each. */

/** How a keyword is treated. */
export interface Keyword {
  /** The PG* variable that sets it where the connection string does not. */
  readonly env?: string
  /** Accepted, but without effect in walrx. */
  readonly ignored?: true
  /** Refused with this reason, because ignoring it would weaken the user's settings. */
  readonly refused?: string
  /** Values with which a refused keyword has no effect. */
  readonly harmless?: RegExp
}

/** Every keyword that a connection string may hold. */
export const keywords = {
  host: { env: 'PGHOST' },
  hostaddr: { env: 'PGHOSTADDR' },
  port: { env: 'PGPORT' },
  dbname: { env: 'PGDATABASE' },
  user: { env: 'PGUSER' },
  password: { env: 'PGPASSWORD' },
  passfile: { env: 'PGPASSFILE' },
  service: { env: 'PGSERVICE' },
  servicefile: { env: 'PGSERVICEFILE' },
  application_name: { env: 'PGAPPNAME' },
  fallback_application_name: {},
  options: { env: 'PGOPTIONS' },
  connect_timeout: { env: 'PGCONNECT_TIMEOUT' },
  keepalives: {},
  keepalives_idle: {},
  target_session_attrs: { env: 'PGTARGETSESSIONATTRS' },
  load_balance_hosts: { env: 'PGLOADBALANCEHOSTS' },
  require_auth: { env: 'PGREQUIREAUTH' },
  channel_binding: { env: 'PGCHANNELBINDING' },
  sslmode: { env: 'PGSSLMODE' },
  sslnegotiation: { env: 'PGSSLNEGOTIATION' },
  sslrootcert: { env: 'PGSSLROOTCERT' },
  sslcrl: { env: 'PGSSLCRL' },
  sslcert: { env: 'PGSSLCERT' },
  sslkey: { env: 'PGSSLKEY' },
  sslpassword: {},
  sslcertmode: { env: 'PGSSLCERTMODE' },
  sslsni: { env: 'PGSSLSNI' },
  ssl_min_protocol_version: { env: 'PGSSLMINPROTOCOLVERSION' },
  ssl_max_protocol_version: { env: 'PGSSLMAXPROTOCOLVERSION' },

  // Node.js sets the first probe only; libuv asks every second from then on, ten times.
  keepalives_interval: { ignored: true },
  keepalives_count: { ignored: true },
  tcp_user_timeout: { ignored: true },
  // Always UTF8.
  client_encoding: { env: 'PGCLIENTENCODING', ignored: true },
  // walrx sets this itself.
  replication: { ignored: true },
  sslcompression: { env: 'PGSSLCOMPRESSION', ignored: true },
  krbsrvname: { env: 'PGKRBSRVNAME', ignored: true },
  gsslib: { env: 'PGGSSLIB', ignored: true },
  gssdelegation: { env: 'PGGSSDELEGATION', ignored: true },
  max_protocol_version: { env: 'PGMAXPROTOCOLVERSION', ignored: true },
  authtype: { ignored: true },
  tty: { ignored: true },

  gssencmode: {
    env: 'PGGSSENCMODE',
    refused: 'walrx cannot encrypt by GSSAPI; use TLS',
    harmless: /^(disable|prefer)$/,
  },
  requirepeer: { env: 'PGREQUIREPEER', refused: "walrx cannot check the owner of the server's process" },
  requiressl: { env: 'PGREQUIRESSL', refused: 'it is obsolete; use sslmode=require', harmless: /^0$/ },
  sslcrldir: { env: 'PGSSLCRLDIR', refused: 'walrx reads revocation lists from one file; use sslcrl' },
  min_protocol_version: {
    env: 'PGMINPROTOCOLVERSION',
    refused: 'walrx supports only protocol 3.0',
    harmless: /^3\.0$/,
  },
  sslkeylogfile: { refused: 'walrx does not write TLS keys to files' },
  scram_client_key: { refused: 'walrx logs in with a password; use password or passfile' },
  scram_server_key: { refused: 'walrx logs in with a password; use password or passfile' },
  oauth_issuer: { refused: 'walrx cannot log in by OAuth' },
  oauth_client_id: { refused: 'walrx cannot log in by OAuth' },
  oauth_client_secret: { refused: 'walrx cannot log in by OAuth' },
  oauth_scope: { refused: 'walrx cannot log in by OAuth' },
} as const satisfies Record<string, Keyword>

/** A name in {@link keywords}. */
export type KeywordName = keyof typeof keywords
