import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ChecksumFailures } from '../../../src/postgres/backup/checksum-failures.ts'

function noted(...messages: readonly string[]): ChecksumFailures {
  const failures = new ChecksumFailures()
  for (const M of messages) failures.note({ S: 'WARNUNG', V: 'WARNING', C: '01000', M })
  return failures
}

test('blocks and totals of a file are put together', () => {
  const failures = noted(
    'checksum verification failed in file "./base/5/16384", block 3: calculated 1A2B and expected 44',
    'checksum verification failed in file "./base/5/16384", block 9: calculated 12 and expected 0',
    'further checksum verification failures in file "./base/5/16384" will not be reported',
    'file "./base/5/16384" has a total of 17 checksum verification failures',
    'checksum verification failed in file "/mnt/a b/PG_17_202406281/5/16400.2", block 0: calculated FFFF and expected E',
    '18 total checksum verification failures',
  )
  assert.deepEqual(failures.list, [
    { file: 'base/5/16384', blocks: [3, 9], count: 17 },
    { file: '/mnt/a b/PG_17_202406281/5/16400.2', blocks: [0], count: 1 },
  ])
  assert.equal(
    failures.describe(),
    'base/5/16384 (blocks 3, 9 and 15 more), /mnt/a b/PG_17_202406281/5/16400.2 (block 0)',
  )
})

test('a translation changes nothing', () => {
  const blocks = [
    'Prüfsummenüberprüfung fehlgeschlagen in Datei »./base/5/16384«, Block 12: berechnet 1A2B, aber erwartet 3C',
    'échec de la vérification de la somme de contrôle dans le fichier « ./base/5/16384 », bloc 12 : calculé 1A2B et attendu 3C',
    '在文件"./base/5/16384",块12中校验和验证失败: 计算得1A2B,但期望是3C',
    'ファイル"./base/5/16384"、ブロック12でチェックサム検証に失敗しました: 計算値1A2Bに対し期待値は3C',
    'weryfikacja sumy kontrolnej nie powiodła się w pliku „./base/5/16384”, blok 12: obliczono 1A2B a oczekiwano 3C',
  ]
  for (const message of blocks) {
    assert.deepEqual(noted(message).list, [{ file: 'base/5/16384', blocks: [12], count: 1 }], message)
  }
  const totals = [
    'in Datei »./base/5/16384« wurden insgesamt 30 Prüfsummenfehler gefunden',
    'le fichier « ./base/5/16384 » a un total de 30 échecs de vérification',
    'ファイル"./base/5/16384"では全体で30回のチェックサム検証失敗がありました',
    'se encontraron 30 fallas en el archivo «./base/5/16384»',
  ]
  for (const message of totals) {
    assert.deepEqual(noted(message).list, [{ file: 'base/5/16384', blocks: [], count: 30 }], message)
  }
})

test('what says nothing of damaged pages is passed over', () => {
  const failures = noted(
    'could not verify checksum in file "./base/5/16384", block 12: read buffer size 4000 and page size 8192 differ',
    'skipping special file "./foo.sock"',
    'aborting backup due to backend exiting before pg_backup_stop was called',
    'file "./pg_wal/archive_status" of 3 things',
    '',
  )
  failures.note({ V: 'NOTICE', C: '00000', M: 'checksum in file "./base/5/1", block 1: calculated 1 and expected 2' })
  failures.note({ V: 'WARNING', C: '58P01', M: 'checksum in file "./base/5/1", block 1: calculated 1 and expected 2' })
  assert.deepEqual(failures.list, [])
  assert.equal(failures.describe(), '')
})

test('a thousand files are kept, and ten are reported', () => {
  const failures = noted(
    ...Array.from(
      { length: 1500 },
      (_, index) => `in file "./base/5/${index + 1}", block 1: calculated A and expected B`,
    ),
  )
  assert.equal(failures.list.length, 1000)
  assert.match(failures.describe(), /^base\/5\/1 \(block 1\), .*base\/5\/10 \(block 1\), more than 990 further files$/)
})
