#!/bin/sh
# Makes a virtual environment, or leaves it as it is where nothing has changed: `scripts/venv.sh FOLDER PYTHON dev|run`.
#
#   dev  what requirements-dev.lock pins, hashes checked
#   run  what Fanfold needs, in the lock's versions
#
# Fanfold itself is installed in place, by the build backend of the lock: nothing unpinned is fetched. With uv where it is
# there, else with venv and pip.
set -eu
folder=$1 python=$2 kind=$3

fail() {
    echo "$1" >&2
    exit 1
}

"$python" -c '' || fail "PYTHON=$python: it can't be run (it said so above), and Fanfold is set up with it. Name one that \
can: make PYTHON=/usr/bin/python3 $kind. With pyenv, a version must be active, or name it whole: \$(pyenv prefix 3.12)/bin/python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "PYTHON=$python is $("$python" --version 2>&1), and Fanfold needs Python 3.11 or newer. Try: make PYTHON=python3.12 $kind"
case $folder in
    .venv-*) ;;
    *) fail "folder $folder: its name begins with .venv-, since it is removed and made anew" ;;
esac

# What an environment is made from. It is made anew whenever that changes: what an older lock had, and this one hasn't,
# would stay in one that is only added to, and a Python that was removed leaves one that can't run.
wanted=$("$python" - "$kind" <<'EOF'
import hashlib, json, pathlib, sys, tomllib

project = tomllib.loads(pathlib.Path("pyproject.toml").read_text(encoding="utf-8"))
tool = project.pop("tool", {})
made_from = [sys.argv[1], sys.executable, sys.version, project, tool.get("hatch")]
hashed = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode())
for name in ("requirements-dev.lock", "scripts/venv.sh"):
    hashed.update(pathlib.Path(name).read_bytes())
print(hashed.hexdigest())
EOF
)
stamp=$folder/$kind.stamp
if [ -x "$folder/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

if command -v uv >/dev/null 2>&1; then
    create() { uv venv --quiet --python "$("$python" -c 'import sys; print(sys.executable)')" "$folder"; }
    install() { uv pip install --quiet --python "$folder/bin/python" "$@"; }
else
    create() { "$python" -m venv "$folder"; }
    install() { "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$@"; }
fi

echo "Setting up $folder ..." >&2
rm -rf "$folder"
create
if [ "$kind" = dev ]; then
    install --require-hashes -r requirements-dev.lock
    install --no-deps --no-build-isolation --editable .
else
    sed -n 's/ \\$//; /^[a-z0-9]/p' requirements-dev.lock >"$folder/constraints.txt"
    install --constraint "$folder/constraints.txt" hatchling editables
    install --constraint "$folder/constraints.txt" --no-build-isolation --editable .
fi
echo "$wanted" >"$stamp"
