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

# Prints "TITLE ... N s" until it is told to stop. Its sleep dies with it.
step_pulse() {
  local title=$1 since=$SECONDS napping=
  trap 'kill "$napping" 2>/dev/null; exit 0' TERM
  while :; do
    sleep 10 &
    napping=$!
    wait "$napping"
    printf '  %s ... %d s\n' "$title" $((SECONDS - since))
  done
}

# step TITLE COMMAND [ARGUMENT...]: the command's status is the step's.
step() {
  local title=$1 start=$SECONDS status=0 pulse
  shift
  step_pulse "$title" &
  pulse=$!
  "$@" >"$step_log" 2>&1 </dev/null || status=$?
  kill "$pulse" 2>/dev/null || true
  wait "$pulse" 2>/dev/null || true
  if [ "$status" = 0 ]; then
    printf '  %-44s ok (%d s)\n' "$title" $((SECONDS - start))
  else
    printf '  %-44s FAILED (%d s)\n' "$title" $((SECONDS - start))
    sed 's/^/    | /' "$step_log"
  fi
  return "$status"
}
