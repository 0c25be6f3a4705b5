#!/bin/sh
# Reads the database's password from a secret file into the URL, then runs the command.
set -eu
if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    password=$(python -c 'import sys, urllib.parse; print(urllib.parse.quote(open(sys.argv[1]).read().strip(), safe=""))' "$POSTGRES_PASSWORD_FILE")
    export EVOSEARCH_DB="postgresql://evosearch:${password}@${POSTGRES_HOST:-postgres}/evosearch"
fi
exec "$@"
