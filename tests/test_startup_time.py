"""What starting costs: modules that are not needed are not imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

LATE = {"torch._dynamo", "sympy", "basicsr", "torchvision", "scipy", "skimage", "matplotlib", "requests", "tensorboard"}
AT_THE_END = """
import atexit, gc, sys
from rnan_plugin.__main__ import program
sys.argv = ["rnan", *sys.argv[1:]]
atexit.register(lambda: print("kept from the last collection:", gc.get_freeze_count() > 1000))
sys.exit(program())
"""


@pytest.mark.parametrize(("command", "status"), [(["status", "--bad"], 2), (["sets", "."], 1), (["--version"], 0)])
def test_a_process_of_its_own_ends_without_looking_at_all_modules(command: list[str], status: int) -> None:
    result = subprocess.run([sys.executable, "-c", AT_THE_END, *command], check=False, capture_output=True, text=True)
    assert (result.returncode, result.stdout.splitlines()[-1]) == (status, "kept from the last collection: True")
    assert "Traceback" not in result.stderr


RESTORE = """
import sys
from rnan_plugin.__main__ import main
status = main(["restore", "in.png", "out.png", *sys.argv[1:]])
print(status, sorted(set(sys.modules) & {names}))
"""


@pytest.mark.parametrize("arguments", [[], ["--task", "colordn", "--level", "50"], ["--task", "sr"]])
def test_restoring_imports_nothing_that_it_does_not_need(tmp_path: Path, arguments: list[str]) -> None:
    noisy = np.random.default_rng(0).normal(128, 30, (300, 300, 3)).clip(0, 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "in.png"), noisy if not arguments else noisy[:64, :64])
    code = RESTORE.replace("{names}", repr(LATE))
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert result.stdout.splitlines()[-1] == "0 []", result.stdout + result.stderr
