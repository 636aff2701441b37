#include "absl/strings/str_cat.h"
#include "cli/commands/commands.h"
#include "cli/commands/options.h"

// The shells' scripts: each asks `ctr __complete WORDS…` what the last word may become.
namespace ctr::cli {
namespace {

// bash splits words also at ':' and '=', which references and --flag=value hold: the line is split
// here, and what stands before the last of them is taken off again.
constexpr char kBash[] =
    R"sh(# bash completion of ctr; for this shell: source <(ctr completion bash)
_ctr() {
  local line=${COMP_LINE:0:COMP_POINT} word candidate
  local -a words
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  word=${words[${#words[@]} - 1]}
  local before=${word%"${word##*[:=]}"}
  COMPREPLY=()
  while IFS= read -r candidate; do
    if [[ $candidate != :files ]]; then
      COMPREPLY+=("${candidate#"$before"}")
    elif [[ ${#COMPREPLY[@]} -eq 0 ]]; then
      compopt -o default 2>/dev/null
    else
      while IFS= read -r candidate; do
        [[ -d $candidate ]] && candidate+=/
        COMPREPLY+=("$(printf %q "$candidate")")
      done < <(compgen -f -- "$word")
    fi
  done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
  # A path goes on behind these.
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[:/] ]] && compopt -o nospace 2>/dev/null
}
complete -F _ctr ctr
)sh";

constexpr char kZsh[] = R"sh(#compdef ctr
# zsh completion of ctr; for this shell: source <(ctr completion zsh)
_ctr() {
  local -a candidates
  candidates=("${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -S '' -- "${(@M)candidates:#?*:}"
  compadd -- "${(@)candidates:#(|*:|:files)}"
  (( ${candidates[(I):files]} )) && _files
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
  _ctr "$@"
else
  compdef _ctr ctr
fi
)sh";

constexpr char kFish[] = R"sh(# fish completion of ctr; for this shell: ctr completion fish | source
function __ctr_complete
    set -l word (commandline -ct)
    set -l words (commandline -opc) "$word"
    set -l candidates ($words[1] __complete $words[2..-1] 2>/dev/null)
    for candidate in $candidates
        if test "$candidate" = :files
            __fish_complete_path "$word"
        else
            printf '%s\n' $candidate
        end
    end
end
complete -c ctr -f -a '(__ctr_complete)'
)sh";

int Print(const std::string& shell, Context& context) {
  if (shell == "bash") return context.PrintText(kBash);
  if (shell == "zsh") return context.PrintText(kZsh);
  if (shell == "fish") return context.PrintText(kFish);
  return context.Fail(absl::InvalidArgumentError(
      absl::StrCat("\"", shell, "\" is no shell with a script; use bash, zsh or fish")));
}

}  // namespace

Action DefineCompletion(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  app.add_option("SHELL", *shell, "bash, zsh or fish")->required()->type_name("");
  return [shell](Context& context) { return Print(*shell, context); };
}

}  // namespace ctr::cli
