"""From what a user has of an image set to a verified LMDB: the `prepare`, `verify` and `sets` commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from rnan_plugin.data.download import download, file_name, masked, md5_of
from rnan_plugin.data.image_sources import ImageSource, collect_images
from rnan_plugin.data.image_store import FolderStore, LmdbStore
from rnan_plugin.data.lmdb_check import check_lmdb
from rnan_plugin.data.lmdb_writer import SKIPPED, Layout, Packed, pack
from rnan_plugin.data.pack_work import check_target
from rnan_plugin.errors import UserError, one_line
from rnan_plugin.paper.image_sets import TRAINING_SETS, VALIDATION_SETS, NamedSet
from rnan_plugin.targets import ABSENT, absence, check_names, is_file, why_no_folder


def prepare(
    sources: Sequence[str],
    lmdb_path: str,
    layout: Layout,
    *,
    set_name: str | None = None,
    hold_out: int | None = None,
    skip_bad: bool = False,
) -> Packed:
    """Download what is a URL, check the set, pack, verify, and print what to put into the option file.

    Args:
        sources: Folders, zip files and URLs of zip files; none takes the set's own URL.
        lmdb_path: The LMDB to make.
        layout: What to keep of each image.
        set_name: One of `TRAINING_SETS`, whose names, number and checksum to insist on.
        hold_out: Keep one image in so many, evenly over the sorted names, out of the LMDB, and pack it into another
            one whose name ends in `_held_out.lmdb`, for validation.
        skip_bad: Leave unreadable images out and list them in `skipped.txt` inside the LMDB.

    Raises:
        UserError: As by `download`, `collect_images` and `pack`, or the set is not complete.
    """
    if hold_out is not None and hold_out < 2:
        raise UserError(f"--hold-out {hold_out}: keeps one image in so many out of training, so 2 or more")
    named = TRAINING_SETS[set_name] if set_name is not None else None
    held_path = f"{lmdb_path.removesuffix('.lmdb')}_held_out.lmdb"
    # Before hours of downloading. The part held out comes first: there alone, it is from a run that was interrupted.
    check_target(lmdb_path)
    if hold_out is not None:
        check_names(Path(held_path))
    files = _local_files(sources, Path(lmdb_path).parent, named, set_name)
    images = collect_images(files)
    if named is not None and set_name is not None:
        _check_set(images, named, set_name, ", ".join(files))
    held = set(sorted(images)[hold_out // 2 :: hold_out]) if hold_out else set()
    rest = {name: image for name, image in images.items() if name not in held}
    if hold_out and not held:
        raise UserError(f"--hold-out {hold_out}: too few images for it, {len(images)}; leave it out")
    if held and absence(held_path) != ABSENT:
        _check_held(held_path, held)
    elif held:
        _pack({name: images[name] for name in sorted(held)}, held_path, layout, skip_bad=skip_bad)
    return _pack(rest, lmdb_path, layout, skip_bad=skip_bad)


def _check_held(path: str, names: set[str]) -> None:
    """Whether what an interrupted run has held out is what this run would."""
    # Sub-images have the image's name and a number.
    if not all(name in names or name.rpartition("_s")[0] in names for name in LmdbStore(path).names):
        raise UserError(f"{path}: exists already, with other images; remove it or choose another name")


def _pack(images: Mapping[str, ImageSource], lmdb_path: str, layout: Layout, *, skip_bad: bool) -> Packed:
    packed = pack(images, lmdb_path, layout, skip_bad=skip_bad)
    _report(packed, lmdb_path)
    if layout.codec == "png" and any("." in name for name in images):
        print("note: names hold dots, where BasicSR's own data sets cut them off; RestorationDataset does not")
    return packed


def _local_files(sources: Sequence[str], folder: Path, named: NamedSet | None, set_name: str | None) -> list[str]:
    if not sources:
        if named is None or named.url is None:
            raise UserError(f"prepare: name what to pack: folders, zip files or URLs (set: {set_name or 'none'})")
        sources = [named.url]
    for source in sources:
        _check_source(source)
    files = [str(download(source, folder)) if "://" in source else source for source in sources]
    for file in files:
        if named is not None and named.md5 is not None and file.endswith(".zip") and is_file(Path(file)):
            found = md5_of(Path(file))
            if found != named.md5:
                raise UserError(
                    f"{file}: MD5 is {found}, of the set '{set_name}' {named.md5}; remove it to download it "
                    "again, or leave --set out for another version"
                )
    return files


def _check_source(source: str) -> None:
    """What can be said of a source before hours of downloading others."""
    if "://" not in source:
        if (reason := absence(source)) is not None:
            raise UserError(f"{source}: {'no such file or folder' if reason == ABSENT else reason}; check the path")
    elif not file_name(source).lower().endswith(".zip"):
        raise UserError(f"{masked(source)}: not the URL of a zip file; unpack it yourself and name the folder")


def _check_set(images: Mapping[str, ImageSource], named: NamedSet, set_name: str, where: str) -> None:
    problems = list(named.problems(dict.fromkeys(images)))
    if problems:
        raise UserError(f"{where}: not the set '{set_name}': {'; '.join(problems)}; mend that, or leave --set out")


def _report(packed: Packed, lmdb_path: str) -> None:
    if packed.resumed:
        print(f"{packed.resumed} images were packed already by an interrupted run")
    for line in packed.skipped.values():
        tqdm.write(one_line(f"left out: {line}"))
    if packed.skipped:
        print(f"{len(packed.skipped)} images left out, listed in {Path(lmdb_path, SKIPPED)}")
    print(f"{packed.count} images in {lmdb_path}, verified; in the option file:\n")
    print(f"    dataroot_gt: {lmdb_path}\n    io_backend:\n      type: lmdb")


def verify(lmdb_path: str) -> int:
    """Print whether an LMDB is complete and undamaged; return the exit status."""
    count, problems = check_lmdb(lmdb_path)
    for line in problems:
        print(line)
    print(f"{lmdb_path}: {count} images, {len(problems) or 'no'} problem{'s' * (len(problems) != 1)}")
    return 1 if problems else 0


def list_validation_sets(root: str) -> int:
    """Print which of the paper's validation sets are complete; return the exit status."""
    states = check_validation_sets(root)
    for name, state in states.items():
        print(f"{name:12} {state}")
    return 0 if all(state == "complete" for state in states.values()) else 1


def check_validation_sets(root: str) -> dict[str, str]:
    """Look for the paper's validation sets below a folder.

    Args:
        root: Folder with one folder for each set, such as `datasets`.

    Returns:
        By name of the set: "complete" or what is wrong with it.

    Raises:
        UserError: What is there is no folder, or can't be read.
    """
    if absence(root) != ABSENT and (reason := why_no_folder(root)):
        raise UserError(f"{root}: {reason}; name the folder that has one for each set")
    return {name: _state(Path(root, name), named) for name, named in VALIDATION_SETS.items()}


def _state(folder: Path, named: NamedSet) -> str:
    if absence(folder) == ABSENT:
        return "missing"
    try:
        problems = list(named.problems(FolderStore(str(folder)).sizes()))
    except UserError as error:
        return str(error)
    return "; ".join(problems) or "complete"
