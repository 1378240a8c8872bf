# SPDX-License-Identifier: GPL-3.0-or-later
# Sourced by the commands: one line a step with its seconds, a sign of life while it lasts, and its whole
# output only when it fails.
# shellcheck shell=bash

step_log=${step_log:-/dev/null}  # where the output of a step goes; the caller makes it

say() { printf '%s\n' "$*"; }
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# Says every few seconds that TITLE goes on, until it is told to stop: on a terminal in one line, elsewhere
# in few. Its sleep dies with it.
step_pulse() {
  local title=$1 since=$SECONDS napping='' seconds=30 form='  %s ... %d s\n'
  [ ! -t 1 ] || seconds=2 form='\r  %s ... %d s '
  trap 'kill "$napping" 2>/dev/null; exit 0' TERM
  while :; do
    sleep "$seconds" &
    napping=$!
    wait "$napping"
    kill -0 $$ 2>/dev/null || exit 0  # whoever started this was cut short
    # shellcheck disable=SC2059 # the form is one of the two above
    printf "$form" "$title" $((SECONDS - since))
  done
}

# step TITLE COMMAND [ARGUMENT...]: the command's status is the step's; 77 says it could not run here, 78 that this
# machine cannot be made to run it; its last line says why. A function step_note, where the caller has one, is given that status and may print a word on the result.
step_note() { :; }
step() {
  local title=$1 start=$SECONDS status=0 verdict=ok pulse
  shift
  step_pulse "$title" &
  pulse=$!
  "$@" >"$step_log" 2>&1 </dev/null || status=$?
  kill "$pulse" 2>/dev/null || true
  wait "$pulse" 2>/dev/null || true
  case $status in 0) ;; 77) verdict=skipped ;; 78) verdict="not here" ;; *) verdict=FAILED ;; esac
  [ ! -t 1 ] || printf '\r\033[K'
  printf '  %-44s %s (%d s)%s\n' "$title" "$verdict" $((SECONDS - start)) "$(step_note "$status")"
  case $status in 0) ;; 77 | 78) tail -n 1 "$step_log" ;; *) cat "$step_log" ;; esac | sed 's/^/    | /'
  return "$status"
}
