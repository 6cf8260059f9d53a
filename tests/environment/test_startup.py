"""The lazy import hook, and the commands that put it into an environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from conftest import HookEnvironment

from rnan_plugin.environment import hook as environment_hook
from rnan_plugin.errors import UserError

WAITING = "any(type(f).__module__ == 'rnan_plugin.startup' for f in sys.meta_path)"
LOADED = f"import sys; seen = set(sys.modules); print({WAITING}, *sorted(seen))"
FILES = ("rnan_plugin.pth", "rnan_plugin.start")


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def fakes(tmp_path: Path) -> Path:
    """A toolbox and a torchvision of a few lines each, so that importing them takes no time."""
    folder = tmp_path / "fakes"
    sources = {
        "basicsr/__init__.py": "from . import utils\n"
        "from torchvision.transforms.functional_tensor import rgb_to_grayscale\n"
        "__version__ = '1.4.2'\n",
        "basicsr/data.txt": "resource",
        "basicsr/utils/__init__.py": "from . import dist_util, options\n",
        "basicsr/utils/dist_util.py": "def _init_dist_pytorch(backend): pass\n",
        "basicsr/utils/options.py": "def parse_options(root_path, is_train=True): pass\n",
        "basicsr/train.py": "from basicsr.utils.options import parse_options\ndef load_resume_state(opt): pass\n",
        "basicsr/test.py": "from basicsr.utils.options import parse_options\n",
        "torchvision/__init__.py": "",
        "torchvision/transforms/__init__.py": "",
        "torchvision/transforms/functional.py": "def rgb_to_grayscale(img): return 'modern'\n",
    }
    for name, source in sources.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source)
    with (folder / "basicsr/__init__.py").open("a") as file:
        file.write("from . import test, train\n")
    return folder


# Commands


def test_enable_status_disable(hook_env: HookEnvironment, tmp_path: Path) -> None:
    assert hook_env.plugin(tmp_path, "status", check=False).returncode == 1
    hook_env.plugin(tmp_path, "enable")
    stamps = [(hook_env.site / name).stat().st_mtime_ns for name in FILES]
    assert "unchanged" in hook_env.plugin(tmp_path, "enable").stdout
    assert stamps == [(hook_env.site / name).stat().st_mtime_ns for name in FILES]

    status = hook_env.plugin(tmp_path, "status")
    assert "enabled: yes" in status.stdout
    assert "started by the hook in this process: yes" in status.stdout
    assert all(str(hook_env.site / name) in status.stdout for name in FILES)

    assert hook_env.plugin(tmp_path, "disable").stdout.count("removed") == 2
    assert hook_env.plugin(tmp_path, "disable").stdout.count("not there") == 2
    assert not [path for path in hook_env.site.iterdir() if "rnan_plugin" in path.name]
    assert hook_env.plugin(tmp_path, "status", check=False).returncode == 1


def test_files_are_one_line_each(enabled_env: HookEnvironment) -> None:
    pth, start = ((enabled_env.site / name).read_text() for name in FILES)
    assert pth.startswith("import ")
    assert pth.count("\n") == 1
    assert start == "rnan_plugin.startup:install_at_startup\n"


def test_outdated_files_do_not_count_as_enabled(enabled_env: HookEnvironment, tmp_path: Path) -> None:
    (enabled_env.site / "rnan_plugin.pth").write_text("import os\n")
    status = enabled_env.plugin(tmp_path, "status", check=False)
    assert status.returncode == 1
    assert "outdated" in status.stdout


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"# \xe4\n", b"import os; exec('\xff')\n", b"\0" * 100])
def test_damaged_files_are_told_replaced_and_removed(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    path = tmp_path / "rnan_plugin.pth"
    path.write_bytes(content)
    assert environment_hook.status() == 1
    assert "rnan_plugin.pth: outdated or damaged, enable again" in capsys.readouterr().out

    def probe() -> dict[str, object]:  # a new Python, which may not start while the file is damaged
        assert not path.exists() or path.read_text(encoding="utf-8") == environment_hook.CONTENTS[path.name]
        return {"plugin": True, "waits": True, "torch": False, "toolbox": []}

    monkeypatch.setattr(environment_hook, "_probe", probe)
    environment_hook.enable(link=False)
    assert environment_hook.is_enabled()
    path.write_bytes(content)
    environment_hook.disable()
    assert list(tmp_path.iterdir()) == []


def test_enable_needs_an_installed_plugin(hook_env: HookEnvironment) -> None:
    paths = hook_env.site / "__editable__.pth"
    hidden = paths.rename(hook_env.site / "hidden.txt")
    try:
        repository = hidden.read_text().splitlines()[0]
        result = hook_env.run(Path(repository), "-m", "rnan_plugin", "enable", check=False, PYTHONPATH=repository)
    finally:
        hidden.rename(paths)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "pip install -e ." in result.stderr
    assert not (hook_env.site / "rnan_plugin.pth").exists()


def test_unwritable_folder_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()  # a file where the folder should be: unwritable for root, too
    target = tmp_path / "file" / "rnan_plugin.pth"
    monkeypatch.setattr(environment_hook, "_files", lambda: {target: "import os\n"})
    monkeypatch.setattr(environment_hook, "_probe", lambda: {"plugin": True})
    with pytest.raises(UserError, match="virtual environment"):
        environment_hook.enable(link=False)


def test_a_hook_that_does_not_run_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "rnan_plugin.pth"
    monkeypatch.setattr(environment_hook, "_files", lambda: {target: "import os\n"})
    monkeypatch.setattr(environment_hook, "_probe", lambda: {"plugin": True, "waits": False, "torch": False})
    with pytest.raises(UserError, match="does not run the hook"):
        environment_hook.enable(link=False)
    assert not target.exists()


# Python's start


def test_hook_imports_next_to_nothing(enabled_env: HookEnvironment, tmp_path: Path) -> None:
    waiting, *with_hook = enabled_env.run(tmp_path, "-c", LOADED).stdout.split()
    off, *without = enabled_env.run(tmp_path, "-c", LOADED, RNAN_PLUGIN_DISABLE="1").stdout.split()
    assert (waiting, off) == ("True", "False")
    assert {"rnan_plugin", "rnan_plugin.startup"} <= set(with_hook)
    assert not {name for name in without if name.startswith("rnan_plugin")}
    heavy = {"torch", "torchvision", "numpy", "cv2", "basicsr", "importlib.util", "importlib.metadata", "inspect"}
    new = set(with_hook) - set(without)
    assert not new & heavy
    assert new <= {"__future__", "rnan_plugin", "rnan_plugin.startup"}


def test_kill_switch_does_not_even_import_the_plugin(enabled_env: HookEnvironment, tmp_path: Path) -> None:
    # Not by sys.modules: install_at_startup would cover its tracks there.
    arguments = ("-X", "importtime", "-c", "pass")
    assert "rnan_plugin" in enabled_env.run(tmp_path, *arguments).stderr
    assert "rnan_plugin" not in enabled_env.run(tmp_path, *arguments, RNAN_PLUGIN_DISABLE="1").stderr


def test_kill_switch_zero_means_on(enabled_env: HookEnvironment, tmp_path: Path) -> None:
    assert enabled_env.run(tmp_path, "-c", LOADED, RNAN_PLUGIN_DISABLE="0").stdout.startswith("True")


@pytest.mark.parametrize("source", ["raise RuntimeError('broken')", "a syntax error", None])
def test_start_survives_a_broken_plugin(enabled_env: HookEnvironment, tmp_path: Path, source: str | None) -> None:
    shadow = tmp_path / "shadow"
    (shadow / "rnan_plugin").mkdir(parents=True)
    if source is not None:
        (shadow / "rnan_plugin/__init__.py").write_text(source)
    else:  # uninstalled: the name is there, but nothing below it
        (shadow / "rnan_plugin/__init__.py").touch()
    result = enabled_env.run(tmp_path, "-c", "print('started')", PYTHONPATH=str(shadow))
    assert (result.stdout, result.stderr) == ("started\n", "")


@pytest.mark.parametrize(("switch", "waits"), [("", True), ("1", False)])
def test_start_file_as_python_315_reads_it(
    enabled_env: HookEnvironment, tmp_path: Path, switch: str, waits: bool
) -> None:
    (enabled_env.site / "rnan_plugin.pth").unlink()  # its import line is ignored there
    code = f"""
import os, pkgutil, sys
assert "rnan_plugin" not in sys.modules
os.environ["RNAN_PLUGIN_DISABLE"] = {switch!r}
for line in open({str(enabled_env.site / "rnan_plugin.start")!r}):
    pkgutil.resolve_name(line.strip())()
print({WAITING})
import rnan_plugin
print({WAITING})  # an explicit import is not subject to the kill switch
"""
    assert enabled_env.run(tmp_path, "-c", code).stdout.split() == [str(waits), "True"]


# The import of the toolbox


def test_real_toolbox_knows_the_plugin(enabled_env: HookEnvironment, tmp_path: Path) -> None:
    code = f"""
import sys
import basicsr, importlib.resources, inspect, json
from basicsr.utils import dist_util
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
import torch
dist_util.init_dist("pytorch", backend="nccl", init_method="file://{tmp_path}/rendezvous", rank=0, world_size=1)
print(json.dumps({{
    "registered": ["RNAN" in ARCH_REGISTRY, "RestorationDataset" in DATASET_REGISTRY,
                   "RestorationModel" in MODEL_REGISTRY],
    "backend": torch.distributed.get_backend(),
    "expected": "nccl" if torch.cuda.is_available() else "gloo",
    "loader": type(basicsr.__spec__.loader).__name__,
    "source": inspect.getsource(basicsr.archs)[:1] != "",
    "file": (importlib.resources.files("basicsr") / "version.py").is_file(),
    "waiting": {WAITING},
}}))
torch.distributed.destroy_process_group()
"""
    result = enabled_env.run(tmp_path, "-c", code, LOCAL_RANK="0", RANK="0")
    assert "rnan_plugin:" not in result.stderr
    seen = json.loads(result.stdout.splitlines()[-1])
    assert seen["registered"] == [True, True, True]
    assert seen["backend"] == seen["expected"]
    assert seen["loader"] == "SourceFileLoader"
    assert seen["source"]
    assert seen["file"]
    assert not seen["waiting"]


def test_failed_registration_is_one_line(enabled_env: HookEnvironment, tmp_path: Path, fakes: Path) -> None:
    code = "import sys; sys.modules['rnan_plugin.training.connect'] = None; import basicsr; print(basicsr.__version__)"
    result = enabled_env.run(tmp_path, "-c", code, PYTHONPATH=str(fakes))
    assert result.stdout == "1.4.2\n"
    assert result.stderr.count("\n") == 1
    assert "registering RNAN failed (ModuleNotFoundError" in result.stderr
    assert "python -m rnan_plugin doctor" in result.stderr


@pytest.mark.parametrize("cure", ["before_import", "after_import"])
def test_failed_cure_does_not_break_the_toolbox(
    enabled_env: HookEnvironment, tmp_path: Path, fakes: Path, cure: str
) -> None:
    code = f"""
import sys, types
for name in ("rnan_plugin.training.connect", "torchvision.transforms.functional_tensor"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torchvision.transforms.functional_tensor"].rgb_to_grayscale = None
from rnan_plugin.toolbox import compat as cures
cures.{cure} = lambda: 1 / 0
import basicsr
"""
    result = enabled_env.run(tmp_path, "-c", code, PYTHONPATH=str(fakes))
    assert result.stderr.count("\n") == 1
    assert "ZeroDivisionError" in result.stderr


def test_failed_toolbox_import_is_tried_again(enabled_env: HookEnvironment, tmp_path: Path, fakes: Path) -> None:
    with (fakes / "basicsr/__init__.py").open("a") as file:
        file.write("import sys\nif not hasattr(sys, 'second'): sys.second = 1; raise ImportError('first')\n")
    code = f"""
import sys, types
sys.modules["rnan_plugin.training.connect"] = types.ModuleType("register")
try:
    import basicsr
except ImportError as error:
    print(error, {WAITING})
import basicsr
print(basicsr.utils.dist_util._init_dist_pytorch.__module__, {WAITING})
"""
    result = enabled_env.run(tmp_path, "-c", code, PYTHONPATH=str(fakes))
    assert result.stdout.splitlines() == ["first True", "rnan_plugin.toolbox.compat False"]


@pytest.mark.parametrize("stock", [True, False])
def test_functional_tensor_only_where_missing(
    enabled_env: HookEnvironment, tmp_path: Path, fakes: Path, stock: bool
) -> None:
    if stock:
        module = fakes / "torchvision/transforms/functional_tensor.py"
        module.write_text("def rgb_to_grayscale(img): return 'stock'\n")
    code = """
import sys, types
sys.modules["rnan_plugin.training.connect"] = types.ModuleType("register")
import basicsr, importlib.util
print(basicsr.rgb_to_grayscale(None), basicsr.__spec__.loader.get_data(basicsr.__path__[0] + "/data.txt"))
assert importlib.util.find_spec("torchvision.transforms.functional_tensor")
"""
    result = enabled_env.run(tmp_path, "-c", code, PYTHONPATH=str(fakes))
    assert result.stdout.split()[0] == ("stock" if stock else "modern")
    assert result.stdout.split()[1] == "b'resource'"


def test_other_toolbox_version_is_left_alone(enabled_env: HookEnvironment, tmp_path: Path, fakes: Path) -> None:
    with (fakes / "basicsr/__init__.py").open("a") as file:
        file.write("__version__ = '1.5'\n")
    code = """
import sys, types
sys.modules["rnan_plugin.training.connect"] = types.ModuleType("register")
import basicsr
print(basicsr.utils.dist_util._init_dist_pytorch.__module__)
"""
    result = enabled_env.run(tmp_path, "-c", code, PYTHONPATH=str(fakes))
    assert result.stdout == "basicsr.utils.dist_util\n"


def test_looking_for_the_toolbox_does_not_import_it(enabled_env: HookEnvironment, tmp_path: Path, fakes: Path) -> None:
    code = f"""
import sys
from importlib.util import find_spec
spec = find_spec("basicsr")
assert spec.loader.is_package("basicsr") and spec.loader.get_source("basicsr")
assert find_spec("basicsr_like") is None
print("basicsr" in sys.modules, {WAITING}, spec.origin)
"""
    result = enabled_env.run(tmp_path, "-c", code, PYTHONPATH=str(fakes))
    assert result.stdout.split() == ["False", "True", str(fakes / "basicsr/__init__.py")]


def test_install_is_idempotent_and_knows_when_it_is_too_late(hook_env: HookEnvironment, tmp_path: Path) -> None:
    code = f"""
import sys, types
from rnan_plugin import startup
startup.install(); startup.install_at_startup()
print(sum(type(f).__module__ == "rnan_plugin.startup" for f in sys.meta_path))
startup.uninstall()
sys.modules["basicsr"] = types.ModuleType("basicsr")
startup.install()
print({WAITING})
"""
    assert hook_env.run(tmp_path, "-c", code).stdout.split() == ["1", "False"]


# ./basicsr


def test_link_is_made_ignored_and_removed(hook_env: HookEnvironment, tmp_path: Path) -> None:
    link = tmp_path / "below" / "basicsr"
    link.parent.mkdir()
    git(tmp_path, "init")
    hook_env.plugin(link.parent, "enable", "--link")
    assert link.is_symlink()
    assert (link / "train.py").is_file()
    assert git(tmp_path, "status", "--porcelain") == ""
    assert not (tmp_path / ".gitignore").exists()

    again = hook_env.plugin(link.parent, "enable", "--link")  # the link is now first on sys.path
    assert "left alone" in again.stdout
    assert (link / "train.py").is_file()
    assert (tmp_path / ".git/info/exclude").read_text().count("basicsr") == 1
    assert f"link to {link.readlink()}" in hook_env.plugin(link.parent, "status").stdout

    hook_env.plugin(link.parent, "disable")
    assert not os.path.lexists(link)


@pytest.mark.parametrize("kind", ["folder", "dangling link", "link elsewhere"])
def test_what_is_there_stays(hook_env: HookEnvironment, tmp_path: Path, kind: str) -> None:
    place = tmp_path / "basicsr"
    if kind == "folder":
        place.mkdir()
        (place / "__init__.py").touch()
    else:
        if kind == "link elsewhere":
            (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    before = place.lstat().st_ino
    assert "left alone" in hook_env.plugin(tmp_path, "enable", "--link").stdout
    hook_env.plugin(tmp_path, "disable")
    assert place.lstat().st_ino == before


def test_failing_symlink_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "a required privilege is not held by the client")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(UserError, match="rnan_plugin train"):
        environment_hook._link_toolbox()
