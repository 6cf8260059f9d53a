"""Several methods on the same inputs: cost and scores in one table, restored images, one page."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from rnan_plugin.data.image_store import is_lmdb, open_store
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.comparison_file import GROUND_TRUTH, Comparison, file_name, read_comparison
from rnan_plugin.evaluation.costs import measure_costs, timing_input
from rnan_plugin.evaluation.differences import differences, differences_as_text, write_differences
from rnan_plugin.evaluation.evaluate import Evaluation, evaluate
from rnan_plugin.evaluation.html_report import write_html
from rnan_plugin.evaluation.methods import Method, build_method
from rnan_plugin.evaluation.reports import comparison_paper_rows, text_table, write_comparison, write_report
from rnan_plugin.files import staged, write_texts, write_whole, writing
from rnan_plugin.images.codec import encode_png
from rnan_plugin.images.degradations import Image
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.targets import check_folder

_WRITTEN = ".written.json"  # in a comparison's folder: which images and scores are its own
_KINDS = ("images", "scores")


def compare(path: str, out: Path) -> dict[str, list[Evaluation]]:
    """Run a comparison file; print its tables, and write everything below `out/NAME`.

    Returns:
        By method its evaluations, in the order of the sets.

    Raises:
        UserError: The file, a method or an image set has something to mend, or the results can't be written.
    """
    comparison = read_comparison(path)
    folder = check_folder(out / comparison.name)
    methods = {name: build_for_all_sets(comparison, name) for name in comparison.methods}
    first = [next(iter(of_set.values())) for of_set in methods.values()]
    lq = timing_input(comparison.task, comparison.timing_side)
    costs = measure_costs(first, lq, comparison.settings.policy)
    results: dict[str, list[Evaluation]] = {}
    with staged(folder) as stage:  # images of a comparison that fails do not mingle with an earlier one's
        for name, of_set in methods.items():
            results[name] = []
            for root, method in of_set.items():
                results[name].append(evaluate_method(comparison, method, root, stage / "images"))
                write_report(results[name][-1], stage / "scores", replace=True)
        written = sorted(file.relative_to(stage).as_posix() for file in stage.rglob("*") if file.is_file())
    _forget_others(folder, written)
    rows = write_comparison(comparison, costs, results, folder)
    found = differences(results)
    write_differences(found, folder)
    print(text_table(rows), *comparison_paper_rows(results), sep="\n")
    if found:
        print("", differences_as_text(found), "", sep="\n")
    print(f"-> {write_html(comparison, rows, results, found, folder)}")
    return results


def _forget_others(folder: Path, written: Iterable[str]) -> None:
    """Remove images and scores that an earlier run of the comparison wrote and this one has not; note what is its own.

    Args:
        folder: Of the comparison. What no run has noted there stays.
        written: What this run has put there, as paths below the folder.
    """
    with writing(folder):
        own = {_identity(folder / name) for name in written}  # in another case a name may be the same file
        for file in (folder / name for name in _noted(folder) - set(written)):
            if file.is_file() and _identity(file) not in own:
                file.unlink()
                for above in list(file.relative_to(folder).parents)[:-1]:
                    with suppress(OSError):  # something else is there
                        (folder / above).rmdir()
    write_texts({folder / _WRITTEN: json.dumps(list(written), indent=1) + "\n"})


def _identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_dev, found.st_ino


def _noted(folder: Path) -> set[str]:
    """What an earlier run has noted; nothing where that is no longer as it wrote it."""
    try:
        names = json.loads((folder / _WRITTEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    texts = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    parts = {name: PurePosixPath(name).parts for name in texts}
    return {name for name in texts if parts[name] and parts[name][0] in _KINDS and ".." not in parts[name]}


def build_for_all_sets(comparison: Comparison, name: str) -> dict[str, Method]:
    """A method of a comparison by image set: files are others for each, all else is built once."""
    source = comparison.methods[name]
    policy = replace(comparison.settings.policy, self_ensemble=source.self_ensemble)
    settings = replace(comparison.settings, policy=policy)
    methods: dict[str, Method] = {}
    try:
        for root in comparison.sets:
            if source.type == "files":
                methods[root] = _files(comparison, name, root, settings)
            else:
                methods[root] = next(iter(methods.values()), None) or build_method(
                    source, comparison.task, settings, [], name
                )
    except UserError as error:
        raise error.within(f"{comparison.path}, methods.{name}: ") from None
    return methods


def _files(comparison: Comparison, name: str, root: str, settings: RestoreSettings) -> Method:
    """Results of another program: the folder itself, or with several image sets a folder below it for each."""
    source = comparison.methods[name]
    if len(comparison.sets) > 1:
        source = replace(source, files=str(Path(str(source.files), Path(root).stem)))
    return build_method(source, comparison.task, settings, open_store(root, is_lmdb=is_lmdb(root)).names, name)


def evaluate_method(comparison: Comparison, method: Method, root: str, images: Path) -> Evaluation:
    """Score a method on an image set, and keep what it restored as `images/SET/IMAGE/METHOD.png`.

    The ground truth lies beside it: grey, Y, or cut to a multiple of the scale, as the task needs.
    """

    def keep(name: str, restored: Image, gt: Image) -> None:
        for stem, img in ((file_name(method.name), restored), (GROUND_TRUTH, gt)):
            file = images / Path(root).stem / name / f"{stem}.png"
            with writing(file):
                write_whole([encode_png(img, level=3)], file)

    return evaluate(method, comparison.task, root, keep=keep, lpips=comparison.lpips)
