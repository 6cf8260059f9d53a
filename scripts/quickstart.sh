#!/usr/bin/env bash
# From a fresh clone to a trained, validated small RNAN: about 8 minutes on 2 cores, 3 of them once for the set-up.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup_env.sh
setup_env
.venv/bin/rnan enable --link
.venv/bin/python scripts/quickstart.py
