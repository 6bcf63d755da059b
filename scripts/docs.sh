#!/usr/bin/env bash
# Generates docs/api.md from the comments of the installed extension.
#
#   scripts/docs.sh [--check]    --check: exit code 1 if it is out of date
. "$(dirname "$0")/lib.sh"

"$ROOT/scripts/server.sh" start
"$VENV/bin/python" "$ROOT/scripts/api_docs.py" "$("$ROOT/scripts/server.sh" url postgres)" "$@"
