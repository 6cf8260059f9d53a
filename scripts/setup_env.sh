# Sourced by quickstart.sh and test.sh: makes .venv with everything in it, or leaves a complete one as it is.
# PYTHON names the interpreter (3.10 to 3.12; BasicSR can't be built on later ones).

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: no Python 3.10, 3.11 or 3.12 found; install one, or name it: PYTHON=/path/to/python3.12 bash $0" >&2
    return 1
}

requirements() { # of an installed package, with the extra named in $2
    .venv/bin/python - "$1" "${2:-}" <<'EOF'
import importlib.metadata
import sys

from packaging.requirements import Requirement

for line in importlib.metadata.requires(sys.argv[1]) or []:
    requirement = Requirement(line)
    # tb-nightly would overwrite files of tensorboard, and its command fails with today's setuptools. BasicSR,
    # installed already, is left out because pip would add its tb-nightly.
    if requirement.name not in ("tb-nightly", "basicsr") and (not requirement.marker or requirement.marker.evaluate({"extra": sys.argv[2]})):
        requirement.marker = None
        print(requirement)
EOF
}

setup_env() {
    local python stamp pip
    stamp=".venv/installed-$(cat pyproject.toml scripts/setup_env.sh | cksum | cut -d' ' -f1)"
    if [ -e "$stamp" ]; then return; fi
    python=$(find_python)
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    pip=".venv/bin/python -m pip install --quiet --disable-pip-version-check"
    echo "Installing into .venv, once (3 to 6 minutes, most of it torch)"
    $pip torch torchvision numpy cython packaging "setuptools>=77" wheel
    # BasicSR's build imports torch: without isolation it takes the one just installed, not a second one.
    $pip --no-build-isolation --no-deps basicsr==1.4.2
    $pip --no-build-isolation --no-deps --editable .
    { requirements basicsr; requirements rnan-plugin dev; } >.venv/requirements.txt
    $pip --requirement .venv/requirements.txt
    touch "$stamp"
}
