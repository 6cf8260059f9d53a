# Sourced by quickstart.sh and test.sh: makes .venv with everything in it, or leaves a complete one as it is.
# PYTHON names the interpreter (3.11 to 3.14).

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python from 3.11 to 3.14 found; install one, or name it: PYTHON=/path/to/python3.14 bash $0" >&2
    return 1
}

setup_env() {
    local python stamp
    stamp=".venv/installed-$(cat pyproject.toml scripts/setup_env.sh | cksum | cut -d' ' -f1)"
    if [ -e "$stamp" ]; then return; fi
    python=$(find_python)
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    echo "Installing into .venv, once (3 to 6 minutes, most of it torch)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
    .venv/bin/rnan install-basicsr
    touch "$stamp"
}
