"""Scores under the paper's protocols, and the reports that carry them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from little_rights import little_room

from rnan_plugin.__main__ import main
from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.data.pairs import pair
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.classical import unrestored
from rnan_plugin.evaluation.evaluate import evaluate
from rnan_plugin.evaluation.methods import Method, MethodSource, ResultsFolder, build_method
from rnan_plugin.evaluation.protocol import score
from rnan_plugin.evaluation.reports import as_csv, as_json, as_markdown, as_text, write_report
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import RestoreSettings
from rnan_plugin.inference.shipped import shipped_file
from rnan_plugin.paper.tables import all_published, published_rows
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.toolbox.api import ARCH_REGISTRY, calculate_psnr, calculate_ssim

SETS = Path(os.environ.get("RNAN_REFERENCE_DIR", ""), "data/val")
needs_sets = pytest.mark.skipif("RNAN_REFERENCE_DIR" not in os.environ, reason="RNAN_REFERENCE_DIR is not set")


def input_method(task: TaskAtLevel, name: str = "input", facts: Callable[[], dict[str, str]] = dict) -> Method:
    return Method(name, unrestored(task), facts)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in (("a", (41, 38)), ("b.1", (37, 52))):
        img = cv2.GaussianBlur(rng.integers(0, 256, (*size, 3), dtype=np.uint8), (0, 0), 1.5)
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"photos/{name}.png"), img)
    return tmp_path / "photos"


@needs_sets
@pytest.mark.parametrize(
    ("name", "level", "image_set", "row", "decimals"),
    [
        *[("car", quality, "Classic5", "JPEG", 2) for quality in (10, 20, 30, 40)],
        ("demosaic", None, "Kodak24", "Mosaiced", 2),
        ("sr", 2, "Set5", "Bicubic", None),
        ("sr", 4, "Set5", "Bicubic", None),
    ],
)
def test_input_rows_are_the_papers(
    name: str, level: float | None, image_set: str, row: str, decimals: int | None
) -> None:
    task = TaskAtLevel(name, level)
    mean = evaluate(input_method(task), task, str(SETS / image_set)).mean
    (paper,) = [cell for cell in published_rows(name, level, image_set) if cell.method == row]
    if decimals is None:  # the quoted rows enlarge an 8-bit Y, not RGB
        assert mean.psnr == pytest.approx(paper.psnr, abs=0.02)
    else:
        assert round(mean.psnr, decimals) == paper.psnr
    if name == "demosaic":
        assert round(mean.ssim, 4) == paper.ssim


@pytest.mark.parametrize("name", ["colordn", "graydn", "demosaic", "car", "sr"])
def test_scores_are_those_of_the_toolboxs_validation(name: str) -> None:
    """With `crop_border` and `test_y_channel` as the option files have them."""
    task = TaskAtLevel(name, {"demosaic": None, "sr": 2}.get(name, 10))
    rng = np.random.default_rng(1)
    channels = 3 if task.row.channels == "rgb" else 1
    img, gt = (rng.integers(0, 256, (32, 30, channels), dtype=np.uint8) for _ in range(2))
    keys = {"crop_border": 2, "test_y_channel": True} if name == "sr" else {"crop_border": 0}
    expected = [metric(img[..., ::-1], gt[..., ::-1], **keys) for metric in (calculate_psnr, calculate_ssim)]
    assert score(img, gt, task) == pytest.approx(expected, abs=1e-10)


def test_numbers_of_the_paper() -> None:
    """Counted and looked up in the tables: 12 columns of 8 methods less six cells without a number, and so on."""
    assert Counter(row.table for row in all_published()) == {2: 90, 3: 90, 4: 12, 5: 46, 6: 70, 8: 84}
    found = {(row.method, row.table): (row.psnr, row.ssim) for row in published_rows("demosaic", None, "Kodak24")}
    assert found == {
        ("Mosaiced", 4): (8.56, 0.0682),
        ("IRCNN", 4): (40.41, 0.9807),
        ("RNAN", 4): (43.09, 0.9902),
        ("IRCNN", 8): (40.41, None),
        ("RNAN", 8): (42.86, None),
    }
    assert [row.psnr for row in published_rows("graydn", 50, "Kodak24")] == [
        *[26.99, 27.20, 27.66, 27.51, 27.68, 27.45, 27.63, 27.93],
        *[27.63, 27.92],
    ]
    assert [row.psnr for row in published_rows("sr", 3, "Set14")] == [30.00, 30.22]


def test_restored_files_are_matched_by_name(photos: Path, tmp_path: Path) -> None:
    task = TaskAtLevel("graydn", 25)
    results = tmp_path / "results"
    results.mkdir()
    store = FolderStore(str(photos))
    for name in store.names:
        cv2.imwrite(str(results / f"{name}.png"), pair(task, store, name)[0])
    files = ResultsFolder(str(results), store.names)
    from_files = evaluate(Method("files", files, dict), task, str(photos))
    direct = evaluate(input_method(task), task, str(photos))
    assert {name: (row.psnr, row.ssim) for name, row in from_files.scores.items()} == {
        name: (row.psnr, row.ssim) for name, row in direct.scores.items()
    }
    (results / "a.png").rename(results / "c.png")
    with pytest.raises(UserError, match="do not match the ground truth's by name; missing: a; extra: c"):
        ResultsFolder(str(results), store.names)


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-m", "rnan_plugin", "evaluate", *arguments]
    return subprocess.run(script, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.usefixtures("photos")
def test_command_scores_a_network_of_the_toolbox(tmp_path: Path) -> None:
    network = {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_block": 1, "upscale": 2}
    torch.save({"params": ARCH_REGISTRY.get("MSRResNet")(**network).state_dict()}, tmp_path / "net.pth")
    options = {
        "name": "x",
        "model_type": "RestorationModel",
        "scale": 2,
        "num_gpu": 0,
        "datasets": {},
        "network_g": {"type": "MSRResNet", **network},
        "path": {"pretrain_network_g": "net.pth"},
    }
    (tmp_path / "msrresnet.yml").write_text(yaml.safe_dump(options))
    result = command(tmp_path, "photos", "--task", "sr", "--level", "2", "-opt", "msrresnet.yml", "--self-ensemble")
    assert result.returncode == 0, result.stderr
    assert "sr 2, photos: msrresnet_tile128+" in result.stdout
    folder = tmp_path / "results/evaluation"
    written = json.loads((folder / "msrresnet_tile128+_sr_2_photos.json").read_text())
    protocol = written["protocol"]
    assert (protocol["scored_on"], protocol["crop_border"], protocol["images"]) == ("Y, unrounded", 2, 2)
    assert protocol["policies"] == ["tile 128, overlap 16, blended, self-ensemble of 8"]
    assert len(protocol["weights_sha256"]) == 64
    assert protocol["versions"]["torch"] == torch.__version__
    assert list(written["images"]) == ["a", "b.1"]
    table = [
        line for line in (folder / "msrresnet_tile128+_sr_2_photos.csv").read_text().splitlines() if line[0] != "#"
    ]
    rows = {row["image"]: row for row in csv.DictReader(table)}
    assert float(rows["mean"]["psnr"]) == written["mean"]["psnr"]
    for ending in ("csv", "md"):
        text = (folder / f"msrresnet_tile128+_sr_2_photos.{ending}").read_text()
        assert all(f"{key}: {protocol[key]}" in text for key in ("fingerprint", "weights_sha256", "rounding"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["photos", "--task", "car"], "car needs a quality"),
        (["photos", "--task", "car", "--level", "3"], "no weights in the package for car 3"),
        (["nowhere", "--task", "car", "--level", "10", "--input"], "nowhere"),
        (["photos", "--task", "demosaic", "-opt", "no.yml"], "no.yml"),
        (["photos", "--task", "demosaic", "--input", "--weights", "x.pt"], "--weights: nothing to load them into"),
        (["photos", "--task", "demosaic", "--input", "--self-ensemble"], "--self-ensemble: is of a network"),
        (["photos", "--task", "demosaic", "--restored", "photos", "--tile", "9"], "--tile: is of a network, of which"),
        (["photos", "--task", "demosaic", "--input", "--device", "cuda:7"], "--device: is of a network"),
        (["photos", "nowhere", "--task", "car", "--level", "10", "--input"], "nowhere: no such folder"),
    ],
)
@pytest.mark.usefixtures("photos")
def test_command_tells_what_is_wrong_in_one_line(tmp_path: Path, arguments: list[str], told: str) -> None:
    result = command(tmp_path, *arguments)
    assert result.returncode == 2
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert told in line
    assert not (tmp_path / "results").exists()


def test_no_result_replaces_one_of_another_protocol(photos: Path, tmp_path: Path) -> None:
    def write(name: str, weights: str) -> list[str]:
        evaluation = evaluate(input_method(task, name, lambda: {"weights_sha256": weights}), task, str(photos))
        return [file.name for file in write_report(evaluation, tmp_path / "out")]

    task = TaskAtLevel("demosaic")
    first = [f"net_demosaic_photos.{ending}" for ending in ("csv", "json", "md")]
    second = [f"net_demosaic_photos_2.{ending}" for ending in ("csv", "json", "md")]
    assert [write("net", weights) for weights in ("a", "b", "a", "b")] == [first, second, first, second]
    assert json.loads((tmp_path / "out" / first[1]).read_text())["protocol"]["weights_sha256"] == "a"
    (tmp_path / "out" / first[1]).write_text("not ours")
    assert write("net", "a")[0] == "net_demosaic_photos_3.csv"


def test_a_measured_row_says_in_what_it_differs_from_the_papers(photos: Path) -> None:
    task = TaskAtLevel("car", 10)
    root = photos.rename(photos.parent / "Classic5")
    own = evaluate(input_method(task, "x", lambda: {"not_comparable_because": "small"}), task, str(root))
    notes = "not the paper's Classic5: 2 images instead of 5"
    for text in (as_text(own), as_markdown(own), as_csv(own), "\n".join(json.loads(as_json(own))["published_notes"])):
        assert notes in text
        assert "published on Classic5 (measured here: small):" in text
        assert "another implementation" in text
    assert "RNAN  29.96  0.8178  (Table 5)" in as_csv(own)
    same = evaluate(input_method(task), task, str(root))
    assert "published on Classic5:" in as_text(same)


def test_network_of_other_channels_is_refused(photos: Path) -> None:
    weights = torch.load(shipped_file(TaskAtLevel("car", 10)), weights_only=True)
    folder = photos.parent
    torch.save(weights, folder / "net.pth")
    options = {"name": "x", "model_type": "RestorationModel", "datasets": {}, "path": {}, "num_gpu": 0}
    options |= {"network_g": {"type": "RNAN", **weights["network_g"]}}
    (folder / "x.yml").write_text(yaml.safe_dump(options))
    source = MethodSource("network", str(folder / "x.yml"), str(folder / "net.pth"))
    with pytest.raises(UserError, match=r"net.pth: restores images of 1 channel\(s\), colordn 50 has 3"):
        build_method(source, TaskAtLevel("colordn", 50), RestoreSettings(Policy()), [])


def test_fingerprint_tells_image_sets_apart(photos: Path) -> None:
    task = TaskAtLevel("demosaic")
    first = evaluate(input_method(task), task, str(photos))
    assert "demosaic, photos: input" in as_text(first)
    img = cv2.imread(str(photos / "a.png"))
    img[0, 0, 0] ^= 1
    cv2.imwrite(str(photos / "a.png"), img)
    second = evaluate(input_method(task), task, str(photos))
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(("name", "level"), [("sr", 2), ("colordn", 50), ("demosaic", None)])
def test_a_grey_image_in_a_set_of_colour_is_scored(tmp_path: Path, name: str, level: float | None) -> None:
    """As bridge in Set14, with every method: the input, and files of another program, grey or colour."""
    grey = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 36), dtype=np.uint8), (0, 0), 2)
    for folder, img in (("grey", grey), ("colour", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "bridge.png"), img)
    task = TaskAtLevel(name, level)
    method = build_method(MethodSource("bicubic" if name == "sr" else "input"), task, RestoreSettings(), [])
    of_grey, of_colour = (evaluate(method, task, str(tmp_path / root)) for root in ("grey", "colour"))
    assert of_grey.mean.psnr == of_colour.mean.psnr
    assert of_grey.fingerprint == of_colour.fingerprint
    perfect = build_method(MethodSource("files", files=str(tmp_path / "grey")), task, RestoreSettings(), ["bridge"])
    assert evaluate(perfect, task, str(tmp_path / "colour")).mean.psnr == float("inf")


def test_names_that_are_no_utf8_are_scored_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / os.fsdecode(b"s\xe9t")
    folder.mkdir()
    img = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 36, 3), dtype=np.uint8), (0, 0), 2)
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(cv2.imencode(".png", img)[1].tobytes())
    out = tmp_path / os.fsdecode(b"r\xe9sults")
    arguments = ["evaluate", str(folder), "--task", "graydn", "--level", "50", "--input", "--out", str(out)]
    assert main(arguments) == 0
    assert "caf\\xe9" in capsys.readouterr().out
    (report,) = out.glob("*.json")
    written = json.loads(report.read_bytes().decode("ascii"))
    assert list(written["images"]) == ["caf\\xe9"]
    assert written["protocol"]["image_set"] == "s\\xe9t"
    for ending in ("csv", "md"):
        (report,) = out.glob(f"*.{ending}")
        assert "caf\\xe9" in report.read_text(encoding="utf-8")


# Where the reports go

INPUT = ["evaluate", "photos", "--input", "--task", "car", "--level", "10"]
OUTS = [("file", "file is a file, not a folder"), ("loop/ev", "is a link that leads nowhere"), ("n" * 256, "256 bytes")]


@pytest.mark.parametrize(("out", "told"), OUTS)
def test_reports_that_cannot_be_written_are_told_before_scoring(
    out: str, told: str, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos.parent)
    Path("file").touch()
    Path("loop").symlink_to("loop")
    assert main([*INPUT, "--out", out]) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()  # no progress
    assert told in line


def test_reports_of_a_long_name_lie_beside_each_other(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    for seed in ("0", "0", "1"):
        assert main([*INPUT, "--out", "ev", "--name", "n" * 300, "--seed", seed]) == 0
    files = sorted(Path("ev").iterdir())
    assert sorted(Counter(file.suffix for file in files).items()) == [(".csv", 2), (".json", 2), (".md", 2)]
    assert len({file.stem for file in files}) == 2


def test_a_full_disk_leaves_no_report_without_the_others(photos: Path, tmp_path: Path) -> None:
    task = TaskAtLevel("car", 10.0)
    evaluation = evaluate(input_method(task), task, str(photos))
    before = write_report(evaluation, tmp_path / "ev")
    sizes = {file.suffix: file.stat().st_size for file in before}
    assert sizes[".csv"] < sizes[".json"]
    for folder in ("ev", "new"):
        with little_room(sizes[".csv"] + 1), pytest.raises(UserError, match=r"json: can't be written \(File too large"):
            write_report(evaluation, tmp_path / folder)
    assert sorted((tmp_path / "ev").iterdir()) == sorted(before)
    assert not list((tmp_path / "new").iterdir())


def test_a_name_with_a_line_break_is_one_line_of_the_table(photos: Path) -> None:
    (photos / "a.png").rename(photos / "a\nmean 99\x1b[31m.png")
    evaluation = evaluate(input_method(TaskAtLevel("car", 10.0)), TaskAtLevel("car", 10.0), str(photos))
    for text in (as_text(evaluation), as_markdown(evaluation)):
        assert len([line for line in text.splitlines() if r"a\nmean 99\x1b[31m" in line]) == 1
        assert "\x1b" not in text
