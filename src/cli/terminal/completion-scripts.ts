/** Scripts for shells: each asks walrx at every tab; see arguments/completion.ts. */

/** Words are split at `=` and `:` by bash: the answer is for the piece in which the cursor is. Files come where there is no answer. */
const bash = `_walrx_completions() {
    local IFS=$'\\n'
    COMPREPLY=($(walrx --get-yargs-completions bash "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o bashdefault -o default -F _walrx_completions walrx
`

const zsh = `#compdef walrx
_walrx() {
    local -a answers
    answers=("\${(@f)$(walrx --get-yargs-completions zsh "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$answers" ]]; then
        _describe walrx answers
    else
        _files
    fi
}
if [[ "$zsh_eval_context[-1]" == loadautofunc ]]; then
    _walrx "$@"
else
    compdef _walrx walrx
fi
`

const fish = `function __walrx_completions
    set -l words (commandline -opc)
    set -l answers (walrx --get-yargs-completions fish $words[2..-1] (commandline -ct) 2>/dev/null)
    if test (count $answers) -gt 0
        printf '%s\\n' $answers
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c walrx -f -a '(__walrx_completions)'
`

/** What a shell is to source. */
export const completionScripts: Readonly<Record<'bash' | 'zsh' | 'fish', string>> = { bash, zsh, fish }
