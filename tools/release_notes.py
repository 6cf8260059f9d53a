"""Print what CHANGELOG.md says of a version: the text of its release.

python tools/release_notes.py            the version of the package
python tools/release_notes.py 0.1.0
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from rnan_plugin.errors import UserError, exit_status, nearest
from rnan_plugin.version import __version__

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"
_HEADING = re.compile(r"^## (\S+).*\n", re.MULTILINE)


def release_notes(changelog: str, version: str) -> str:
    """The section of a version, without its heading.

    Raises:
        UserError: There is no such section, or nothing in it.
    """
    _, *parts = _HEADING.split(changelog)
    sections = dict(zip(parts[::2], parts[1::2], strict=True))
    if version not in sections:
        raise UserError(f"CHANGELOG.md has no section '## {version}'{nearest(version, sections)}")
    if not sections[version].strip():
        raise UserError(f"CHANGELOG.md says nothing of {version}; describe it there")
    return sections[version].strip()


def main() -> None:
    """Print them."""
    version = sys.argv[1] if len(sys.argv) > 1 else __version__
    print(release_notes(CHANGELOG.read_text(encoding="utf-8"), version))


if __name__ == "__main__":
    sys.exit(exit_status(main))
