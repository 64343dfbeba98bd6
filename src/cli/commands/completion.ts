/** `walrx completion SHELL`: the script that completes the words of walrx in a shell. */
import { WalrxError } from '../../primitives/errors.ts'
import type { Command } from '../command.ts'
import { completionScripts } from '../terminal/completion-scripts.ts'

const shells = Object.keys(completionScripts)

/** See the file's header. */
export const completion: Command<'completion', 'shell'> = {
  name: 'completion',
  positionals: [{ name: 'shell', help: 'bash, zsh or fish', choices: shells }],
  examples: [
    { call: 'walrx completion bash > ~/.local/share/bash-completion/completions/walrx', means: 'for bash' },
    { call: 'walrx completion zsh > "${fpath[1]}/_walrx"', means: 'for zsh' },
    { call: 'walrx completion fish > ~/.config/fish/completions/walrx.fish', means: 'for fish' },
  ],
  run({ positionals, stdout }) {
    const script = Object.entries(completionScripts).find(([shell]) => shell === positionals.shell)?.[1]
    if (script === undefined) {
      throw new WalrxError('WALRX_USAGE', `there is no completion for ${positionals.shell}`, {
        hint: `write one of ${shells.join(', ')}`,
      })
    }
    stdout.write(script)
    return Promise.resolve(0)
  },
}
