#!/usr/bin/env bash
# Set up whatever is missing, then lint, type check and the whole test suite. Arguments go to pytest.
# RNAN_REFERENCE_DIR, if set, names the folder of reference outputs and benchmark images; without it their tests skip.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup_env.sh
setup_env
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
