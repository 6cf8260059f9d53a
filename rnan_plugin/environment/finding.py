"""One line of a diagnosis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis."""

    verdict: Literal["ok", "note", "FAIL"]
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.verdict:<4} {self.text}" + (f"  -> {self.remedy}" if self.remedy else "")
