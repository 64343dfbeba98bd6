/**
 * s3rver in a process of its own, because its continuation tokens need a cipher that OpenSSL has only with
 * `--openssl-legacy-provider`. Arguments: directory, bucket. Sends its port to the parent, and ends
 * with it, directory and all.
 */
import { rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'

interface S3rverOptions {
  readonly address: string
  readonly port: number
  readonly directory: string
  readonly silent: boolean
  readonly vhostBuckets: boolean
  readonly configureBuckets: readonly { readonly name: string }[]
}
type S3rver = new (options: S3rverOptions) => { run(): Promise<AddressInfo> }

const Server = createRequire(import.meta.url)('s3rver') as S3rver
const [directory = '', bucket = ''] = process.argv.slice(2)
const server = new Server({
  address: '127.0.0.1',
  port: 0,
  directory,
  silent: true,
  vhostBuckets: false,
  configureBuckets: [{ name: bucket }],
})
const { port } = await server.run()
process.on('disconnect', () => {
  rmSync(directory, { recursive: true, force: true })
  process.exit()
})
process.send?.({ port })
