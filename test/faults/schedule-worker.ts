/** A thread that runs the schedules of the seeds that it is sent, and answers with what they did. */
import { parentPort } from 'node:worker_threads'
import { runHere } from './schedules.ts'

parentPort?.on('message', ({ from, isEncrypted, to }: { from: number; to: number; isEncrypted: boolean }) => {
  void runHere(from, to, undefined, isEncrypted).then((answer) => parentPort?.postMessage(answer))
})
