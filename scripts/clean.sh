#!/usr/bin/env bash
# Stops the servers and removes everything that was built and fetched.
. "$(dirname "$0")/lib.sh"

if [ -e "$LOCAL/state" ]; then
  find_state
  "$ROOT/scripts/server.sh" stop-all
  rm -rf "$STATE"
fi
rm -rf "$LOCAL" "$ROOT/target" "$ROOT/fuzz/target"
