"""The hook with which a stock `python basicsr/train.py` finds RNAN: `enable`, `disable`, `status`.

The toolbox has no door for plugins, so the way in is Python's own start-up: a `.pth` line and, from Python
3.15 on, its successor, a `.start` file (PEP 829; where that exists, the line is ignored).
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from rnan_plugin import startup
from rnan_plugin.errors import UserError
from rnan_plugin.toolbox.compat import INSTALL

ENTRY_POINT = "rnan_plugin.startup:install_at_startup"
# One line, since site executes line by line. A package that is broken or uninstalled must stay silent.
PTH_LINE = (
    'import os; exec("try:\\n'
    f" if os.environ.get('{startup.KILL_SWITCH}', '') in ('', '0'):\\n"
    "  from rnan_plugin.startup import install_at_startup; install_at_startup()\\n"
    'except Exception: pass")'
)
CONTENTS = {"rnan_plugin.pth": PTH_LINE + "\n", "rnan_plugin.start": ENTRY_POINT + "\n"}
_SOUND = ("installed", "not there")
LINK = Path("basicsr")  # relative: in the folder that is current when it is used

_PROBE = """
import json, sys
from importlib.util import find_spec
torch = "torch" in sys.modules
waits = any(type(finder).__module__ == "rnan_plugin.startup" for finder in sys.meta_path)
toolbox = find_spec("basicsr")
print(json.dumps({
    "waits": waits, "torch": torch, "plugin": find_spec("rnan_plugin") is not None,
    "toolbox": list(toolbox.submodule_search_locations or ()) if toolbox else [],
}))
"""


def enable(link: bool) -> None:
    """Write the hook's files into the active environment, and check that a new Python runs them.

    Args:
        link: Also make `./basicsr` a link to the installed toolbox, for `python basicsr/train.py`.
    """
    for path, content in _files().items():
        if _file_state(path, content) not in _SOUND:
            _remove(path)  # a damaged one may keep Python from starting, which the probe has to
    if not _probe()["plugin"]:
        raise UserError(
            f"rnan_plugin is not installed in {sys.prefix}: a hook there would not find it; "
            "run `pip install -e .` in the plugin's folder, then enable again"
        )
    for path, content in _files().items():
        print(f"{path}: {'unchanged' if _write(path, content) else 'written'}")
    _verify()
    print("enabled: every `import basicsr` of this environment now knows RNAN")
    if link:
        _link_toolbox()


def disable() -> None:
    """Remove the hook's files, and `./basicsr` if it is a link to the installed toolbox."""
    for path in _files():
        print(f"{path}: {'removed' if _remove(path) else 'not there'}")
    toolbox = _toolbox_folder()
    if LINK.is_symlink() and toolbox is not None and LINK.resolve() == toolbox.resolve():
        LINK.unlink()
        print(f"{LINK.absolute()}: link removed")
    print("disabled")


def status() -> int:
    """Print the hook's state; return 0 if it is enabled and 1 if not."""
    for path, content in _files().items():
        print(f"{path}: {_file_state(path, content)}")
    print(f"enabled: {'yes' if is_enabled() else 'no'}")
    print(f"switched off by {startup.KILL_SWITCH}: {'yes' if startup.is_switched_off() else 'no'}")
    print(f"started by the hook in this process: {'yes' if startup.started_by_hook else 'no'}")
    print(f"./{LINK}: {describe_link()}")
    return 0 if is_enabled() else 1


def is_enabled() -> bool:
    """Tell whether both files are in place and current."""
    return all(_file_state(path, content) == "installed" for path, content in _files().items())


def describe_link() -> str:
    """Say in words what `./basicsr` is."""
    if LINK.is_symlink():
        return f"link to {LINK.readlink()}{'' if LINK.exists() else ' (which does not exist)'}"
    if LINK.is_dir():
        return "a folder, not a link"
    return "a file, not a link" if LINK.exists() else "does not exist"


def _files() -> dict[Path, str]:
    folder = Path(sysconfig.get_path("purelib"))
    return {folder / name: content for name, content in CONTENTS.items()}


def _file_state(path: Path, content: str) -> str:
    if not path.is_file():
        return "not there"
    try:
        installed = path.read_bytes() == content.encode()  # as bytes: a damaged file need not be text
    except OSError as error:
        return f"unreadable ({error.strerror})"
    return "installed" if installed else "outdated or damaged, enable again"


def _write(path: Path, content: str) -> bool:
    """Write atomically, since any Python may be starting just now; return True if there was nothing to do."""
    if _file_state(path, content) == "installed":
        return True
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content.encode())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the first error is the one to report
            temporary.unlink()
        raise _unwritable(path, error) from error
    return False


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unwritable(path, error) from error
    return True


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot change {path} ({error.strerror}); use a virtual environment: "
        "`python -m venv .venv`, activate it, install the plugin there"
    )


def _probe() -> dict[str, Any]:
    """Ask a new Python in a neutral folder, for this folder and PYTHONPATH do not count as installed."""
    hidden = ("PYTHONPATH", startup.KILL_SWITCH)
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    with tempfile.TemporaryDirectory() as neutral:
        command = [sys.executable, "-c", _PROBE]
        result = subprocess.run(command, cwd=neutral, env=environment, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    except (IndexError, ValueError) as error:
        last = (result.stderr.strip() or "no output").splitlines()[-1]
        raise UserError(f"{sys.executable} does not start properly: {last}; mend the environment") from error
    return answer


def _verify() -> None:
    seen = _probe()
    if seen["waits"] and not seen["torch"]:
        return
    for path in _files():
        _remove(path)
    fault = "every Python start imports torch" if seen["torch"] else "a new Python does not run the hook"
    raise UserError(
        f"{fault} in {sys.prefix}, so the hook was removed again; "
        "look for other .pth files there, or use a fresh virtual environment"
    )


def _toolbox_folder() -> Path | None:
    places = _probe()["toolbox"]
    return Path(places[0]) if places else None


def _link_toolbox() -> None:
    if os.path.lexists(LINK):
        print(f"{LINK.absolute()}: left alone, it is there already ({describe_link()})")
        return
    toolbox = _toolbox_folder()
    if toolbox is None:
        raise UserError(f"BasicSR is not installed in {sys.prefix}, nothing to link to; {INSTALL} adds it")
    try:
        LINK.symlink_to(toolbox, target_is_directory=True)
    except OSError as error:
        raise UserError(
            f"cannot create the link {LINK.absolute()} ({error.strerror}); "
            "use `python -m rnan_plugin train` in place of `python basicsr/train.py`"
        ) from error
    print(f"{LINK.absolute()}: link to {toolbox}")
    _keep_out_of_git()


def _keep_out_of_git() -> None:
    """Have git overlook the link by the clone's private list; the user's .gitignore stays as it is."""
    in_work_tree = _git("rev-parse", "--is-inside-work-tree") == (0, "true")
    if not in_work_tree or _git("check-ignore", "-q", LINK.name)[0] == 0:
        return
    exclude = Path(_git("rev-parse", "--git-path", "info/exclude")[1])
    prefix = _git("rev-parse", "--show-prefix")[1]
    exclude.parent.mkdir(parents=True, exist_ok=True)
    before = exclude.read_text(encoding="utf-8") if exclude.exists() else ""
    newline = "\n" if before and not before.endswith("\n") else ""
    exclude.write_text(f"{before}{newline}/{prefix}{LINK.name}\n", encoding="utf-8")
    print(f"{exclude}: git now ignores the link")


def _git(*arguments: str) -> tuple[int, str]:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return 127, ""
    return result.returncode, result.stdout.strip()
