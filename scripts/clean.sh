#!/usr/bin/env bash
# Removes the servers and everything that was built or downloaded.
. "$(dirname "$0")/lib.sh"

if [ -e "$LOCAL/state" ]; then
  find_state
  "$ROOT/scripts/server.sh" remove-all
  rm -rf "$STATE"
fi
rm -rf "$LOCAL" "$ROOT/target" "$ROOT/fuzz/target"
