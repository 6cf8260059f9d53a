"""Pack images into an LMDB: the `prepare` command under its first name.

python scripts/pack_lmdb.py DIV2K_train_HR datasets/DIV2K/DIV2K_train_HR_sub.lmdb --crop-size 480 --step 240
"""

from __future__ import annotations

import sys

from rnan_plugin.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
