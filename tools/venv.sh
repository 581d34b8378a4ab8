#!/bin/sh
# Makes a virtual environment with this project (editable) and its tools: tools/venv.sh DIRECTORY CONSTRAINTS GROUP...
# CONSTRAINTS is the file of versions, each GROUP a dependency group of pyproject.toml.
# With uv where it is on PATH, else with pip. $PYTHON names the interpreter; without it, one is looked for.
set -eu

venv=$1
constraints=$2
shift 2
groups=$(printf -- '--group %s ' "$@")

# fits INTERPRETER CONDITION: the condition is Python's, on the version v.
fits() {
    "$1" -c "import sys; v = sys.version_info; sys.exit(not ($2))" >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        fits "$PYTHON" "v >= (3, 11)" && echo "$PYTHON" && return
        echo "make: expected PYTHON=$PYTHON to be Python 3.11 or newer, and it is not; nothing was installed." >&2
        exit 1
    fi
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        fits "$candidate" "(3, 11) <= v < (3, 14)" && echo "$candidate" && return
    done
    echo "make: expected Python 3.11, 3.12 or 3.13, found none of them; nothing was installed. TensorFlow 2.21 is not" \
        "built for others. Install one, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
}

python=$(find_python)
echo "Making $venv with $("$python" --version) and $(command -v uv || echo pip) ..."
# Unquoted on purpose: $groups is a list of words.
if command -v uv >/dev/null; then
    uv venv --quiet --allow-existing --python "$python" "$venv"
    uv pip install --quiet --compile-bytecode --python "$venv/bin/python" --constraint "$constraints" $groups --editable .
else
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$constraints" $groups --editable .
fi
