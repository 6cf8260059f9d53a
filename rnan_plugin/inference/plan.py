"""Which files a restoration reads, what it calls their results, and what of a folder it leaves out."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rnan_plugin.choices import RESULT_FORMATS
from rnan_plugin.data.image_files import files_below, no_images_in
from rnan_plugin.errors import UserError, nearest, shown
from rnan_plugin.files import readable, shortened
from rnan_plugin.images.codec import IMAGE_ENDINGS
from rnan_plugin.images.photo_writer import FORMATS, LOSSLESS, named_format
from rnan_plugin.inference.record import NAME as RECORD_NAME
from rnan_plugin.inference.record import Record
from rnan_plugin.targets import ABSENT, absence, check_file, check_folder, is_file, is_folder, real

INSTEAD = "name another target, a --suffix, or add --overwrite"
_SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))
_AN_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{1,4}")  # .pgn or .pdf, for a single image; .2026 is part of a folder's


@dataclass(frozen=True)
class Naming:
    """How results are called and stored.

    Args:
        format: Of all results; "same" keeps each file's own where it can be written; None follows the target's
            ending, and in a folder takes PNG, which loses nothing.
        suffix: Put behind the stem, such as "_restored".
        quality: Of JPEG and WebP; None takes 95 for JPEG, and WebP without loss.

    Raises:
        UserError: A format or quality that is none, or a suffix that is no part of a file's name.
    """

    format: str | None = None
    suffix: str = ""
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.format not in {None, *RESULT_FORMATS}:
            raise UserError(f"format: no {shown(self.format)}{nearest(str(self.format), RESULT_FORMATS)}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UserError(f"--quality: {self.quality} is not from 1 to 100")
        if self.quality is not None and self.format in LOSSLESS:
            raise UserError(f"--quality: {self.format} loses nothing; leave it out, or name --format jpg or webp")
        if any(part in self.suffix for part in ("/", "\\", "\0")):
            raise UserError(f"--suffix: {self.suffix!r} can't be a part of a file's name")

    def ending_of(self, source: Path) -> str:
        """The ending of a file's result in a folder."""
        own = source.suffix.lower()
        if self.format == "same":
            return source.suffix if own in FORMATS else ".png"
        if self.format is None:
            return ".png"
        return own if FORMATS.get(own) == self.format else f".{self.format}"


@dataclass(frozen=True)
class Job:
    """One file to restore.

    Args:
        source: To read.
        out: To write the restored image to.
        copy: To write the file itself to, where it is left as it is; the same as `out` if the target names a format.
    """

    source: Path
    out: Path
    copy: Path


@dataclass
class Plan:
    """All that is to be done.

    Args:
        jobs: In the order of their sources.
        folder: Of the record beside the results.
        left_out: Files of the folders that are no images, and why.
        unreadable: A line for each folder that can't be read.
    """

    jobs: list[Job]
    folder: Path
    left_out: list[tuple[Path, str]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def make_plan(sources: Sequence[str], target: str, naming: Naming, *, overwrite: bool = False) -> Plan:
    """Find the files, and name their results.

    Args:
        sources: Image files, folders, patterns such as `*.jpg`.
        target: A file for a single image, else a folder, as is what ends in a separator; what a folder holds keeps its
            place below it.
        naming: How results are called.
        overwrite: Results may replace files that are no results of earlier runs.

    Raises:
        UserError: Nothing to restore, or a target that does not fit, can't be written or holds other files of such
            names; nothing was made by then.
    """
    paths, out = [path for source in sources for path in _expanded(source)], Path(target)
    if len(paths) > 1:  # a pattern such as * finds the target of an earlier run too
        paths = [path for path in paths if not (is_folder(path) and real(path) == real(out))]
    alone = paths[0] if len(paths) == 1 and not is_folder(paths[0]) else None
    if _names_file(target, is_alone=alone is not None):
        if alone is None:
            raise UserError(f"{out}: several images need a folder to write to; name one without such an ending")
        plan = _single(alone, out, naming)
    else:
        plan = _in_folder(paths, out, naming)
    if not plan.jobs:
        raise UserError(*plan.unreadable, str(no_images_in(*sources)))
    return plan if overwrite else _kept_from_the_users(plan)


def _names_file(target: str, *, is_alone: bool) -> bool:
    """Whether a target is a file: by the ending of an image, or by any, mistyped too, if it is for a single one."""
    out = Path(target)
    if is_folder(out) or target.endswith(_SEPARATORS):
        return False
    return out.suffix.lower() in IMAGE_ENDINGS or (is_alone and bool(_AN_ENDING.fullmatch(out.suffix)))


def _in_folder(paths: Sequence[Path], out: Path, naming: Naming) -> Plan:
    if naming.quality is not None and naming.format is None:
        raise UserError("--quality: in a folder results are PNG, which loses nothing; add --format jpg or webp")
    plan = Plan([], check_folder(out))
    several = sum(map(is_folder, paths)) > 1
    taken: set[Path] = set()
    files = dict(pair for source in paths for pair in _files(source, out, plan, several=several))
    if len(paths) == 1 and not is_folder(paths[0]):  # named, whatever its ending
        files, plan.left_out = {paths[0]: Path(paths[0].name)}, []
    stems = Counter(place.with_suffix("") for place in files.values())
    for path, place in files.items():
        plan.jobs.append(_job(path, out / place, naming, taken, is_alone=stems[place.with_suffix("")] == 1))
    _check_results(plan.jobs)
    return plan


def _kept_from_the_users(plan: Plan) -> Plan:
    """The plan, unless it would replace files that are not results of the same sources."""
    record = Record(plan.folder)
    for job in plan.jobs:
        for out in (job.out, job.copy):
            if is_file(out) and out.stat().st_size and not record.made(out, job.source):
                raise UserError(f"{out}: is there already; {INSTEAD}")
    return plan


def _expanded(source: str) -> list[Path]:
    """The path itself, or what a pattern matches that no shell has replaced."""
    path = Path(source)
    if is_file(path) or is_folder(path):
        return [path]
    found = sorted(glob.glob(source, recursive=True)) if glob.has_magic(source) else []  # noqa: PTH207 - may be absolute
    if not found:
        raise UserError(f"{source}: {_why_nothing(source)}")
    return [Path(name) for name in found]


def _why_nothing(source: str) -> str:
    reason = absence(source)
    if reason == ABSENT:
        is_pattern = glob.has_magic(source)
        return "nothing matches this pattern" if is_pattern else "no such image or folder; check the path"
    return f"{reason or 'neither an image file nor a folder'}; check the path"


def _single(source: Path, out: Path, naming: Naming) -> Plan:
    """One image to a file whose ending says the format."""
    kind = named_format(out, may_be_folder=True)
    if naming.format not in (None, kind):
        raise UserError(f"--format: {naming.format}, but the target {out} ends in {out.suffix}; leave out one of them")
    if naming.quality is not None and kind in LOSSLESS:
        raise UserError(f"--quality: {out.suffix} loses nothing; leave it out, or end the target in .jpg or .webp")
    if naming.suffix:
        raise UserError(f"--suffix: goes with a folder as target; {out} is named already")
    job = Job(source, out, out)
    _check_results([job])
    return Plan([job], out.parent)


def _files(source: Path, target: Path, plan: Plan, *, several: bool) -> list[tuple[Path, Path]]:
    """Images with their place below the target; of several folders each has one of its own there."""
    if not is_folder(source):
        return [(path, Path(path.name)) for path in _images([source], target, plan)]
    top = Path(real(source).name) if several else Path()
    files, there = sorted(files_below(source, plan.unreadable.append)), real(target)
    if real(source) in there.parents:
        files = [path for path in files if there not in real(path).parents]
    return [(path, top / path.relative_to(source)) for path in _images(files, target, plan, source)]


def _images(files: Sequence[Path], target: Path, plan: Plan, source: Path | None = None) -> Iterator[Path]:
    """Those of the files that are images by their ending, and no results of earlier runs.

    These are the target's, and those of folders below the source folder that were made of what is there too.
    """
    results, made = _Results(target), _made_below(files, source)
    for path in files:
        if path.suffix.lower() in IMAGE_ENDINGS:
            if not results.have(path) and not (made and readable(real(path)) in made):
                yield path
        elif path.name != RECORD_NAME:
            plan.left_out.append((path, f"'{path.suffix}' is no ending of an image" if path.suffix else "no ending"))


def _made_below(files: Sequence[Path], source: Path | None) -> set[str]:
    """Results of one of the files in folders below their own, as `readable` names where they really are."""
    records = [Record(path.parent) for path in files if path.name == RECORD_NAME and path.parent != source]
    there = {readable(real(path)) for path in files} if records else set()  # asks the system for each
    return {out for record in records for out in record.made_of(there)}


class _Results:
    """What the record of a folder says is a result, and therefore no source."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._images = real(folder), Record(folder).images

    def have(self, path: Path) -> bool:
        """Whether a file is one of them."""
        leads_to = real(path)
        if self._folder not in leads_to.parents:
            return False
        return readable(leads_to.relative_to(self._folder).as_posix()) in self._images


def _job(source: Path, place: Path, naming: Naming, taken: set[Path], *, is_alone: bool) -> Job:
    """Results that would meet keep the whole name of their source; if they still do, they are numbered."""
    ending, own = naming.ending_of(source), source.suffix
    stem = place.stem if is_alone or own.lower() == ending.lower() else place.name
    out, number = _named(place, stem, naming.suffix, ending), 1
    while out in taken:
        number += 1
        out = _named(place, place.name, f"{naming.suffix}-{number}", ending)
    copy = out if naming.format not in (None, "same") else _named(place, place.stem, naming.suffix, own)
    copy = out if copy in taken else copy
    taken |= {out, copy}
    return Job(source, out, copy)


def _named(place: Path, stem: str, suffix: str, ending: str) -> Path:
    return place.with_name(shortened(stem, f"{suffix}{ending}"))


def _check_results(jobs: Sequence[Job]) -> None:
    sources = {real(job.source) for job in jobs}
    for job in jobs:
        for out in dict.fromkeys((job.out, job.copy)):
            if real(out) in sources:
                raise UserError(f"{out}: the result would replace its input; name another target, or a --suffix")
            check_file(out)
