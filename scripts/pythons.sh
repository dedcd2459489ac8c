#!/bin/sh
# Prints the oldest supported Python (3.11) and the newest that this machine has, one path a line, one where they are one.
# Candidates are run, not looked at: a pyenv shim may be there for a version that isn't active.
set -eu

candidates() {
    for minor in 11 12 13 14 15; do command -v "python3.$minor" || true; done
    command -v python3 || true
    if command -v pyenv >/dev/null 2>&1; then
        pyenv versions --bare | while read -r version; do echo "$(pyenv prefix "$version")/bin/python"; done
    fi
    if command -v uv >/dev/null 2>&1; then uv python list --only-installed 2>/dev/null | awk '{ print $2 }'; fi
}

working() {
    candidates | while read -r python; do
        "$python" -c 'import sys, sqlite3, venv, ensurepip
if sys.version_info >= (3, 11): print(sys.version_info.minor, sys.executable)' 2>/dev/null || true
    done | sort -n -u
}

working | sed -n '1p;$p' | awk '{ print $2 }' | uniq
