"""The image sets of the paper: how many images, which names and sizes, where from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Size = tuple[int, int]  # shorter side, longer side

_BSD = frozenset({(321, 481), (320, 480)})  # whole, and cropped to a multiple of every scale


@dataclass(frozen=True)
class NamedSet:
    """What a complete image set is known by.

    Args:
        count: Number of images.
        sizes: Legal sizes of an image; None where they vary.
        numbers: First and last of the names, numbers of four digits; None where names vary.
        url: Where its authors publish it as one zip file.
        md5: Of that file; as listed by several public projects that download it.
        colour: Whether its images are; grey ones are no input of a task on RGB.
    """

    count: int
    sizes: frozenset[Size] | None = None
    numbers: tuple[int, int] | None = None
    url: str | None = None
    md5: str | None = None
    colour: bool = True

    def problems(self, sizes: Mapping[str, tuple[int, int] | None]) -> Iterator[str]:
        """Say what is wrong with a set of images, given height and width by name (None if unknown)."""
        if self.numbers is not None:
            wanted = {f"{number:04d}" for number in range(self.numbers[0], self.numbers[1] + 1)}
            yield from _listed("missing", wanted - set(sizes))
            yield from _listed("not of the set", set(sizes) - wanted)
        elif len(sizes) != self.count:
            yield f"{len(sizes)} images instead of {self.count}"
        if self.sizes is not None:
            odd = {name for name, size in sizes.items() if size and (min(size), max(size)) not in self.sizes}
            yield from _listed("of another size than " + " or ".join(f"{w}×{h}" for h, w in sorted(self.sizes)), odd)


def _listed(what: str, names: set[str]) -> Iterator[str]:
    if names:
        few = ", ".join(sorted(names)[:5])
        yield f"{len(names)} {what}: {few}{', …' if len(names) > 5 else ''}"


_DIV2K = "http://data.vision.ee.ethz.ch/cvl/DIV2K/DIV2K_{}_HR.zip"

# By the names that `prepare --set` takes.
TRAINING_SETS = {
    "div2k": NamedSet(800, None, (1, 800), _DIV2K.format("train"), "bdc2d9338d4e574fe81bf7d158758658"),
    "div2k-valid": NamedSet(100, None, (801, 900), _DIV2K.format("valid"), "9fcdda83005c5e5997799b69f955ff88"),
    "bsd400": NamedSet(400, _BSD),
    "sr291": NamedSet(291),  # T91 and the 200 training images of BSD
}

# By the folder that the shipped option files read them from.
VALIDATION_SETS = {
    "Set5": NamedSet(5),
    "Set14": NamedSet(14),
    "B100": NamedSet(100, _BSD),
    "BSD68": NamedSet(68, _BSD),
    "Urban100": NamedSet(100),
    "Manga109": NamedSet(109),
    "Kodak24": NamedSet(24, frozenset({(512, 768)})),
    "McMaster18": NamedSet(18, frozenset({(500, 500)})),
    "LIVE1": NamedSet(29),
    "Classic5": NamedSet(5, frozenset({(512, 512)}), colour=False),
}
