"""Say what is wrong with an installation, or with an option file's data, and how to mend it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

from rnan_plugin import startup
from rnan_plugin.environment import hook as environment_hook
from rnan_plugin.environment.finding import Finding
from rnan_plugin.toolbox.compat import INSTALL, TOOLBOX_VERSION

OLDEST_PYTHON = (3, 11)
TENSORBOARD_WITHOUT_PKG_RESOURCES = "2.21"
PLUGIN_CLASSES = (
    ("ARCH_REGISTRY", "RNAN"),
    ("DATASET_REGISTRY", "RestorationDataset"),
    ("MODEL_REGISTRY", "RestorationModel"),
)


@dataclass(frozen=True)
class Library:
    """A library the plugin needs: how to import it, the oldest version that will do, its remedy."""

    module: str
    oldest: str
    remedy: str


Check = Callable[[], Iterator[Finding]]

LIBRARIES = {
    "torch": Library("torch", "2.6", "install torch as pytorch.org says for your GPU"),
    "torchvision": Library(
        "torchvision",
        "0.21",
        "must fit torch: install both in one command, `pip install --force-reinstall torch torchvision`",
    ),
    "numpy": Library("numpy", "1.26", "`pip install --upgrade numpy`"),
    "opencv-python": Library(
        "cv2", "4.8", "`pip install --upgrade opencv-python` (opencv-python-headless where libGL is missing)"
    ),
    "lmdb": Library("lmdb", "1.4", "`pip install --upgrade lmdb`"),
    "tensorboard": Library("tensorboard", "2.21", "`pip install --upgrade tensorboard`"),
}


def diagnose(option_file: str | None) -> int:
    """Print one line for each check.

    Args:
        option_file: YAML file whose data folders and LMDBs are checked too.

    Returns:
        1 if a check failed, else 0.
    """
    failed = False
    for check in _checks(option_file):
        for finding in _findings(check):
            print(finding, flush=True)
            failed |= finding.verdict == "FAIL"
    return int(failed)


def _checks(option_file: str | None) -> list[Check]:
    checks: list[Check] = [
        check_python,
        check_libraries,
        check_tensorboard,
        check_toolbox,
        check_copies,
        check_registered,
        check_hook,
        check_device,
    ]
    if option_file is not None:
        checks.append(lambda: _check_data(Path(option_file)))
    return checks


def _findings(check: Check) -> Iterator[Finding]:
    """Run one check; a crash of it is a finding, so that the other checks still run."""
    try:
        yield from check()
    except Exception as error:
        yield Finding("FAIL", f"this check broke off: {_in_one_line(error)}", "see the lines above, or report it")


def _in_one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


# Environment


def check_python() -> Iterator[Finding]:
    """Python's version."""
    text = f"Python {platform.python_version()}, {sys.executable}"
    if sys.version_info >= OLDEST_PYTHON:
        yield Finding("ok", text)
    else:
        yield Finding("FAIL", text, f"needs {'.'.join(map(str, OLDEST_PYTHON))} or later")


def check_libraries() -> Iterator[Finding]:
    """Each library can be imported and is new enough."""
    for name, library in LIBRARIES.items():
        try:
            version = str(importlib.import_module(library.module).__version__)
        except Exception as error:  # a mismatch of builds is a RuntimeError or an OSError
            yield Finding("FAIL", f"{name} cannot be imported ({_in_one_line(error)})", library.remedy)
            continue
        if _numbers(version) < _numbers(library.oldest):
            yield Finding("FAIL", f"{name} {version}, older than {library.oldest}", library.remedy)
        else:
            yield Finding("ok", f"{name} {version}")


def check_tensorboard() -> Iterator[Finding]:
    """What the toolbox's dependency on tb-nightly may leave behind."""
    stable, nightly = _installed_version("tensorboard"), _installed_version("tb-nightly")
    if stable and nightly:
        yield Finding(
            "note",
            f"tensorboard {stable} and tb-nightly {nightly} share one folder",
            "`pip uninstall -y tb-nightly && pip install --force-reinstall --no-deps tensorboard`",
        )
    oldest = min(filter(None, (stable, nightly)), key=_numbers, default=None)
    needs_it = oldest is not None and _numbers(oldest) < _numbers(TENSORBOARD_WITHOUT_PKG_RESOURCES)
    if needs_it and importlib.util.find_spec("pkg_resources") is None:
        yield Finding(
            "note",
            "the command `tensorboard` needs pkg_resources, which is missing",
            f"`pip install 'tensorboard>={TENSORBOARD_WITHOUT_PKG_RESOURCES}'`",
        )


def _installed_version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers: (2, 14, 1) for "2.14.1+cu130"; enough to compare releases."""
    numbers = []
    for part in version.split("+")[0].split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


# Toolbox and plugin


def check_toolbox() -> Iterator[Finding]:
    """The toolbox can be imported and is the version this plugin knows."""
    if not _has_toolbox():
        text = "BasicSR is not installed: images are restored without it, training and the paper's scores need it"
        yield Finding("note", text, INSTALL)
        return
    if importlib.util.find_spec("distutils") is None:
        yield Finding("FAIL", "distutils is missing, which BasicSR imports", "`pip install setuptools`")
        return
    try:
        toolbox = importlib.import_module("basicsr")
    except Exception as error:
        text = f"basicsr cannot be imported ({_in_one_line(error)})"
        yield Finding("FAIL", text, "mend the libraries named above")
        return
    text = f"basicsr {toolbox.__version__}, {_folder(toolbox)}"
    if toolbox.__version__ == TOOLBOX_VERSION:
        yield Finding("ok", text)
    else:
        yield Finding("FAIL", text, f"{INSTALL} installs {TOOLBOX_VERSION}, the version this plugin is for")


def _has_toolbox() -> bool:
    return importlib.util.find_spec("basicsr") is not None


def check_copies() -> Iterator[Finding]:
    """There is one toolbox and one plugin, whichever way Python is started."""
    for name, remedy in (
        ("basicsr", "remove one: names registered in one copy are unknown to the other"),
        ("rnan_plugin", "`pip install -e .` in the folder you mean to use"),
    ):
        package = sys.modules.get(name)
        if package is None:
            continue
        others = _other_copies(name)
        loaded = _folder(package)
        for other in others:
            yield Finding("FAIL", f"two copies of {name}: {loaded} (loaded) and {other}", remedy)
        if not others:
            yield Finding("ok", f"one copy of {name}: {loaded}")


def _other_copies(name: str) -> list[Path]:
    """Return the folders of packages called `name`, other than the loaded one; a link to it is no copy."""
    places = (Path(entry or ".") / name for entry in [*sys.path, "."])
    copies = {place.resolve() for place in places if (place / "__init__.py").is_file()}
    copies.discard(_folder(sys.modules[name]).resolve())
    return sorted(copies)


def _folder(package: ModuleType) -> Path:
    return Path(package.__path__[0])


def check_registered() -> Iterator[Finding]:
    """The toolbox's registries know the plugin's classes."""
    for failure in startup.failures:
        yield Finding("FAIL", failure, "mend that; `pip install --force-reinstall` of the plugin if it is broken")
    if not _has_toolbox():
        return
    importlib.import_module("rnan_plugin.training.connect")
    toolbox = importlib.import_module("rnan_plugin.toolbox.api")
    for registry, name in PLUGIN_CLASSES:
        if name in getattr(toolbox, registry):
            yield Finding("ok", f"{name} is registered in {registry}")
        else:
            yield Finding("FAIL", f"{name} is not registered in {registry}", "reinstall the plugin")


def check_hook() -> Iterator[Finding]:
    """Whether a stock `python basicsr/train.py` will find the plugin."""
    if not _has_toolbox():
        return
    if environment_hook.is_enabled():
        yield Finding("ok", "environment hook is enabled")
    else:
        yield Finding(
            "note",
            "environment hook is not enabled: `python basicsr/train.py` will not know RNAN",
            "`rnan enable`, or train with `rnan train`",
        )
    if startup.is_switched_off():
        yield Finding("note", f"{startup.KILL_SWITCH} switches the hook off", f"unset {startup.KILL_SWITCH}")
    yield Finding("ok", f"./basicsr: {environment_hook.describe_link()}")


def check_device() -> Iterator[Finding]:
    """What the network will run on."""
    import torch

    from rnan_plugin import device

    chosen = device.choose()
    if chosen.type == "cuda":
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        yield Finding("ok", f"{len(names)} GPU(s): {', '.join(names)}")
    elif chosen.type == "mps":
        yield Finding("ok", "Apple GPU (mps)")
    else:
        built_for = f"CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU only"
        yield Finding("note", f"no GPU: slow; this torch is built for {built_for}")
    yield Finding("ok", f"{torch.get_num_threads()} CPU threads of {os.cpu_count()}")


def _check_data(option_file: Path) -> Iterator[Finding]:
    from rnan_plugin.environment.data_check import check_option_file  # needs the libraries that are checked first

    yield from check_option_file(option_file)
