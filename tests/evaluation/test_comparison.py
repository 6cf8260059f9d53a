"""Comparisons: one table from networks, classical methods and files, and a page to look at them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.data.pairs import pair
from rnan_plugin.errors import UserError
from rnan_plugin.evaluation.classical import CLASSICAL, classical, unrestored
from rnan_plugin.evaluation.comparison import build_for_all_sets
from rnan_plugin.evaluation.comparison_file import read_comparison
from rnan_plugin.evaluation.costs import multiply_adds, timing_input
from rnan_plugin.evaluation.evaluate import evaluate
from rnan_plugin.evaluation.methods import Method, build_method
from rnan_plugin.evaluation.protocol import score
from rnan_plugin.evaluation.reports import markdown_table
from rnan_plugin.inference.policy import Policy
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.toolbox.api import ARCH_REGISTRY
from rnan_plugin.training.curves import Curve, training_curves

BROWSER = shutil.which("chromium")
NETWORK = {"num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_rab": 1, "num_rnab": 1}


def write_log(folder: Path) -> None:
    """The log of a training of six iterations, which took half a minute, or longer with other work on the machine."""
    with SummaryWriter(str(folder)) as writer:
        for iteration, seconds in ((2, 30.0), (4, 90.0), (6, 30.0)):
            writer.add_scalar("seconds_per_step", seconds, iteration)
        for iteration, psnr in ((3, 20.0), (6, 21.0)):
            writer.add_scalar("metrics/held-out/psnr", psnr, iteration)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the command has compared five methods on two images."""
    folder = tmp_path_factory.mktemp("compared")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / "photos").mkdir(exist_ok=True)
        img = cv2.GaussianBlur(rng.integers(0, 256, (40, 52, 3), dtype=np.uint8), (0, 0), 3)
        cv2.imwrite(str(folder / f"photos/{name}.png"), img)
    task, store = TaskAtLevel("graydn", 25), FolderStore(str(folder / "photos"))
    for name in store.names:
        (folder / "done").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"done/{name}.png"), pair(task, store, name)[1])
    torch.manual_seed(0)
    torch.save({"params": RNAN(**NETWORK).state_dict()}, folder / "net.pth")
    options = {"name": "x", "num_gpu": 0, "model_type": "RestorationModel", "datasets": {"val": {"channels": "gray"}}}
    options |= {"network_g": {"type": "RNAN", **NETWORK}, "path": {"pretrain_network_g": "net.pth"}}
    (folder / "rnan.yml").write_text(yaml.safe_dump(options))
    write_log(folder / "log")
    methods = {
        "noisy": {"type": "input"},
        "NLM": {"type": "opencv_nlm"},
        "RNAN/tiny": {"type": "network", "opt": "rnan.yml", "training": "log"},
        "RNAN+": {"type": "network", "opt": "rnan.yml", "self_ensemble": True},
        "perfect": {"type": "files", "files": "done"},
    }
    comparison = {"task": "graydn", "level": 25, "sets": ["photos"], "tile": 32, "tile_overlap": 8, "methods": methods}
    (folder / "c.yml").write_text(yaml.safe_dump(comparison | {"timing_side": 48}, sort_keys=False))
    run = [sys.executable, "-m", "rnan_plugin", "compare", "c.yml"]
    result = subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return folder


def test_table_has_costs_and_scores(compared: Path) -> None:
    table = json.loads((compared / "results/comparison/c/table.json").read_text())
    assert list(table) == ["noisy", "NLM", "RNAN/tiny", "RNAN+", "perfect"]
    task = TaskAtLevel("graydn", 25)
    direct = evaluate(Method("noisy", unrestored(task), dict), task, str(compared / "photos")).mean
    assert table["noisy"]["sets"][0]["mean"]["psnr"] == direct.psnr
    assert table["NLM"]["sets"][0]["mean"]["psnr"] > direct.psnr + 3
    assert table["perfect"]["sets"][0]["mean"]["ssim"] == pytest.approx(1)
    tiny, plus = table["RNAN/tiny"], table["RNAN+"]
    assert tiny["cost"]["parameters"] == sum(weight.numel() for weight in RNAN(**NETWORK).parameters())
    assert min(tiny["cost"]["seconds"], plus["cost"]["seconds"]) > 0
    assert (
        plus["cost"]["multiply_adds"] == 8 * tiny["cost"]["multiply_adds"] == 8 * multiply_adds(RNAN(**NETWORK), 32, 1)
    )
    assert table["NLM"]["sets"][0]["package"].startswith("opencv-python")
    assert plus["sets"][0]["policies"] == ["tile 32, overlap 8, blended, self-ensemble of 8"]
    assert table["perfect"]["cost"]["seconds"] is None
    markdown = (compared / "results/comparison/c/table.md").read_text()
    assert re.search(rf"\| noisy \| – \| – \| [\d.]+ \| \d+ \| {direct.psnr:.2f} \| {direct.ssim:.4f} \|", markdown)


def test_restored_images_are_those_that_were_scored(compared: Path) -> None:
    folder = compared / "results/comparison/c"
    task, store = TaskAtLevel("graydn", 25), FolderStore(str(compared / "photos"))
    scores = json.loads((folder / "scores/NLM_graydn_25_photos.json").read_text())["images"]
    for name in store.names:
        img = cv2.imread(str(folder / f"images/photos/{name}/NLM.png"), cv2.IMREAD_UNCHANGED)[..., None]
        assert score(img, pair(task, store, name)[1], task)[0] == scores[name]["psnr"]


def panel(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = [sys.executable, "-m", "rnan_plugin", "figure", "results/comparison/c", "photos", *arguments]
    return subprocess.run(script, cwd=folder, capture_output=True, text=True, check=False)


def test_panel_shows_where_methods_differ_most(compared: Path) -> None:
    result = panel(compared, "a", "figure", "--size", "12", "9", "--difference")
    assert result.returncode == 0, result.stderr
    methods = ["NLM", "RNAN_tiny", "RNAN+", "perfect"]  # the noise of the input is no difference of methods
    files = [compared / f"results/comparison/c/images/photos/a/{method}.png" for method in methods]
    variance = np.stack([cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(float) for file in files]).var(axis=0)
    sums = {
        (left, top): variance[top : top + 9, left : left + 12].sum()
        for top in range(variance.shape[0] - 8)
        for left in range(variance.shape[1] - 11)
    }
    left, top = max(sums, key=lambda place: sums[place])
    assert f"region {left} {top} 12 9 -> figure.png, figure.pdf" in result.stdout
    img = cv2.imread(str(compared / "figure.png"))
    assert img is not None
    assert (img[..., ::-1] == (255, 90, 0)).all(axis=2).sum() > 100  # the marked region's frame
    assert (compared / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_a_chosen_region_is_at_most_the_image(compared: Path) -> None:
    result = panel(compared, "a", "all")
    assert result.returncode == 0, result.stderr
    assert "region 0 0 52 40 -> all.png, all.pdf" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "x", "--region", "50", "0", "12", "9"], "region 50 0 12 9: not within 52×40 pixels"),
        (["c", "x"], "no such image; there are: photos/a, photos/b"),
        (["a", "x", "--size", "0", "9"], "size: 0 9 is of no region; name a width and a height"),
    ],
)
def test_panel_tells_what_is_wrong(compared: Path, arguments: list[str], told: str) -> None:
    result = panel(compared, *arguments)
    assert (result.returncode, told in result.stderr) == (2, True)
    assert not (compared / "x.png").exists()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("", "damaged ("),
        ("{", "damaged ("),
        ("[]", "damaged ("),
        ('{"x": {}}', "damaged ("),
        ('{"x": {"sets": [{"image_set": "photos", "images_scores": {"a": {"psnr": "1", "ssim": 1}}}]}}', "damaged ("),
        ('{"x": {"sets": [3]}}', "damaged ("),
        ("{}", "no scores of photos/a; run the comparison again"),
        ('{"x": {"sets": []}}', "no scores of photos/a; run the comparison again"),
    ],
)
def test_panel_of_a_damaged_table_is_one_line(
    table: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c/images/photos/a").mkdir(parents=True)
    (tmp_path / "c/table.json").write_text(table)
    assert main(["figure", str(tmp_path / "c"), "photos", "a", str(tmp_path / "x")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'c/table.json'}: {told}")


def test_a_bar_in_a_name_ends_no_cell() -> None:
    table = markdown_table([["method", "PSNR"], ["a|b", "1"]])
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()] == [3, 3, 3]
    assert r"| a\|b | 1 |" in table


def test_a_set_is_called_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path / "photos")
    content = {"task": "graydn", "level": 25, "sets": ["."], "methods": {"noisy": {"type": "input"}}}
    Path("c.yml").write_text(yaml.safe_dump(content))
    assert read_comparison("c.yml").sets == [str(tmp_path / "photos")]


# What a user does on the page, appended to a copy of it; what is then seen goes into the title.
VISIT = """
<script>
const headings = [...document.querySelectorAll("th")], psnr = headings.find(th => th.textContent.startsWith("PSNR"));
const order = () => [...document.querySelectorAll("#table tbody tr")].map(tr => tr.cells[0].textContent).join();
psnr.click(); const up = order(); psnr.click(); const down = order();
const views = document.querySelectorAll("#grid .view"), before = views[1].querySelector("img").style.transform;
views[0].dispatchEvent(new WheelEvent("wheel", { deltaY: -400, clientX: 50, clientY: 400 }));
const zoomed = [...views].map(view => view.querySelector("img").style.transform);
document.getElementById("image").value = "b"; document.getElementById("image").onchange();
document.getElementById("position").value = 25; document.getElementById("position").oninput();
// The page's clock, which ends the visit, waits for what is loading, but not for decode().
const ended = img => img.complete || new Promise(end => { img.onload = img.onerror = end; });
const loading = Promise.all([...document.images].map(ended)), seen = img => img.naturalWidth > 0;
loading.then(() => [...document.images].every(seen)).then(loaded => document.title = JSON.stringify({
  up, down, locked: new Set(zoomed).size, moved: zoomed[1] !== before, loaded,
  captions: [...document.querySelectorAll("figcaption")].map(e => e.textContent),
  clip: document.querySelector(".right").style.clipPath,
  curves: document.querySelectorAll("#chart polyline").length,
  apart: [...document.querySelectorAll("#differences tbody tr")].map(tr => [...tr.cells].map(td => td.textContent)),
  training: [...document.querySelectorAll("#curves title")].map(e => e.textContent),
  minutes: (() => { const unit = document.getElementById("unit"); unit.value = "minutes"; unit.onchange();
    return document.querySelector("#curves svg").textContent; })() }));
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium")
def test_page_sorts_zooms_and_slides_in_a_browser(compared: Path, tmp_path: Path) -> None:
    report = (compared / "results/comparison/c/report.html").read_text()
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", report)  # opens without a network
    (tmp_path / "visited.html").write_text(report + VISIT)
    window = ["--headless=new", "--window-size=1200,1600", f"--user-data-dir={tmp_path}/profile"]
    container = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=30000"]
    command = [str(BROWSER), *window, *container, "--dump-dom", f"file://{tmp_path}/visited.html"]
    page = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    found = re.search(r"<title>(.*?)</title>", page)
    assert found
    seen = json.loads(found[1])
    assert seen["down"].split(",") == seen["up"].split(",")[::-1]
    assert seen["down"].startswith("perfect,NLM")
    assert (seen["locked"], seen["moved"], seen["loaded"], seen["curves"]) == (1, True, True, 5)
    written = (compared / "results/comparison/c/differences.md").read_text()
    assert len(seen["apart"]) == 10  # each pair of five methods once
    assert all(f"| {' | '.join(cells)} |" in written for cells in seen["apart"])
    assert seen["training"] == ["RNAN/tiny, iteration 3: 20.0000", "RNAN/tiny, iteration 6: 21.0000"]
    assert "3 minutes" in seen["minutes"]
    assert seen["captions"][0] == "ground truth"
    assert seen["captions"][1].startswith("noisy: 2")
    assert seen["clip"] == "inset(0px 0px 0px 25%)"


def test_curves_of_a_training_leave_out_other_work(tmp_path: Path) -> None:
    write_log(tmp_path / "log")
    assert training_curves(tmp_path / "log") == {"held-out/psnr": Curve([3, 6], [1.5, 3.0], [20.0, 21.0])}
    with SummaryWriter(str(tmp_path / "old")) as writer:
        writer.add_scalar("metrics/held-out/psnr", 20.0, 3)
    assert training_curves(tmp_path / "old") == {"held-out/psnr": Curve([3], [], [20.0])}
    with pytest.raises(UserError, match=r"none: no such log; name the folder of a training's TensorBoard log"):
        training_curves(tmp_path / "none")


def test_multiply_adds_are_those_of_layers_and_attention() -> None:
    conv = nn.Conv2d(3, 8, 3, padding=1)
    assert multiply_adds(conv, 16, 3) == 3 * 8 * 9
    features, side = 8, 16
    counts = {
        softmax: multiply_adds(RNAN(1, 1, features, 1, 1, softmax_over=softmax), side, 1)
        for softmax in ("keys", "queries")
    }
    local = multiply_adds(RNAN(1, 1, features, 1, 1, non_local=False), side, 1)
    # Three embeddings and one projection of half the features; two products of all pairs.
    attention = 4 * features * features / 2 + 2 * side**2 * features / 2
    assert counts == {"keys": local + attention, "queries": local + attention}
    in_windows = attention - 2 * (side**2 - 8**2) * features / 2
    assert multiply_adds(RNAN(1, 1, features, 1, 1), side, 1, window=8) == local + in_windows


def test_networks_with_windows_are_counted_and_the_input_is_of_the_side_asked_for(tmp_path: Path) -> None:
    swinir = ARCH_REGISTRY.get("SwinIR")
    net = swinir(upscale=2, in_chans=3, img_size=16, window_size=8, depths=[1], embed_dim=4, num_heads=[1])
    assert multiply_adds(net, 20, 3) > 0
    content = {"task": "sr", "level": 3, "sets": ["photos"], "timing_side": 20, "methods": {"x": {"type": "bicubic"}}}
    content |= {"tile": 64, "tile_overlap": 8, "attention_window": 24}
    (tmp_path / "c.yml").write_text(yaml.safe_dump(content))
    comparison = read_comparison(str(tmp_path / "c.yml"))
    assert timing_input(comparison.task, comparison.timing_side).shape == (20, 20, 3)
    assert comparison.settings.policy == Policy("tile", 64, 8, window=24)


def test_files_of_several_sets_lie_in_a_folder_for_each(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(compared)
    shutil.copytree("photos", "more", dirs_exist_ok=True)
    for name in ("photos", "more"):
        shutil.copytree("done", f"all/{name}", dirs_exist_ok=True)
    content = yaml.safe_load(Path("c.yml").read_text()) | {"sets": ["photos", "more"]}
    content["methods"] = {"x": {"type": "files", "files": "all"}}
    Path("several.yml").write_text(yaml.safe_dump(content))
    item = build_for_all_sets(read_comparison("several.yml"), "x")
    assert list(item) == ["photos", "more"]


@pytest.mark.parametrize("name", sorted(CLASSICAL))
def test_classical_methods_restore(name: str) -> None:
    if name == "bm3d":
        pytest.importorskip("bm3d", reason="bm3d is not installed: pip install 'rnan_plugin[compare]'")
    if name in {"malvar", "menon"}:
        pytest.importorskip("colour_demosaicing", reason="not installed: pip install 'rnan_plugin[compare]'")
    x, y = np.meshgrid(np.arange(64), np.arange(64))
    gt = np.stack([100 + 60 * np.sin(x / 9), 120 + 50 * np.cos(y / 7), 90 + x + y / 2], axis=2).astype(np.uint8)
    fitting = [row for row in TASKS.values() if CLASSICAL[name].fits(row)]
    assert fitting
    for row in fitting:
        levels = row.levels or (None, None)
        task = TaskAtLevel(row.name, 2 if row.enlarges else levels[1])
        clean = gt[..., :1] if task.row.channels != "rgb" else gt
        lq = task.degradation(clean, np.random.default_rng(0)).astype(np.uint8)
        restored = classical(name, task)(lq, "x")
        assert (restored.shape, restored.dtype) == (clean.shape, np.uint8)
        if name not in {"input", "bicubic"}:
            assert score(restored, clean, task)[0] > score(lq, clean, task)[0] + 4


def test_a_network_of_the_package_by_its_name(tmp_path: Path) -> None:
    methods = {"small": {"type": "shipped"}, "medium": {"type": "shipped", "weights": "colordn_50_medium"}}
    content = {"task": "colordn", "level": 50, "sets": ["photos"], "methods": methods}
    (tmp_path / "c.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    comparison = read_comparison(str(tmp_path / "c.yml"))
    weights = {
        name: build_method(source, comparison.task, comparison.settings, []).facts()["weights"]
        for name, source in comparison.methods.items()
    }
    assert weights == {"small": "colordn_50.pth", "medium": "colordn_50_medium.pth"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"taks": "car"}, "c.yml: unknown key 'taks' (did you mean 'task'?)"),
        ({"task": "denoise"}, "c.yml, task: no 'denoise'"),
        ({"level": None}, "c.yml, level: graydn needs a sigma"),
        ({"methods": {"x": {"type": ["input"]}}}, "c.yml, methods.x.type: no type ['input']"),
        ({"methods": {"x": {"type": "shipped", "weights": 50}}}, "c.yml, methods.x.weights: 50 is not a text or ~"),
        (
            {"methods": {"x": {"type": "shipped", "self_ensemble": "false"}}},
            "c.yml, methods.x.self_ensemble: 'false' is not true or false",
        ),
        ({"methods": {"x": {"type": "nml"}}}, "c.yml, methods.x.type: no type 'nml'"),
        (
            {"methods": {"x": {"type": "released", "wieghts": 1}}},
            "unknown key 'wieghts' for type released (did you mean",
        ),
        ({"methods": {"x": None}}, "methods.x: needs keys, at least a type"),
        ({"methods": {"x": {"type": "network"}}}, "methods.x: type network needs the key 'opt'"),
        (
            {"methods": {"x": {"type": "network", "opt": "a.yml", "training": "tb/a"}}},
            "tb/a: no such folder; name a training's folder",
        ),
        (
            {"methods": {"x": {"type": "network", "opt": "a.yml", "training": "."}}},
            "holds no TensorBoard log; name a training's folder, experiments/NAME, or its tb_logger/NAME",
        ),
        ({"methods": {"": {"type": "input"}}}, "c.yml, methods: an empty name; files are called by it, give it one"),
        ({"methods": {1: {"type": "input"}, "1": {"type": "input"}}}, "c.yml, methods: '1' is taken twice"),
        ({"methods": {"x": {"type": "released"}}}, "methods.x: type released needs the key 'weights'"),
        ({"methods": {"x": {"type": "files"}}}, "methods.x: type files needs the key 'files'"),
        ({"methods": {"x": {"type": "shipped", "opt": "a.yml"}}}, "methods.x: unknown key 'opt' for type shipped"),
        ({"methods": ["x"]}, "c.yml, methods: ['x'] is not a section of 'key: value' lines"),
        ({"methods": {"a/b": {"type": "input"}, "A_b": {"type": "input"}}}, "methods: 'a_b' is taken twice"),
        ({"methods": {"Ground truth": {"type": "input"}}}, "methods: 'ground truth' is taken twice"),
        ({"sets": ["a/photos", "b/photos.lmdb"]}, "c.yml, sets: 'photos' is taken twice"),
        ({"sets": "photos"}, "c.yml, sets: 'photos' is not a list, each item a text that is a path"),
        ({"tile": "wide"}, "c.yml, tile: 'wide' is not a whole number from 1"),
        ({"level": "high"}, "c.yml, level: 'high' is not a finite number"),
        ({"timing_side": 0}, "c.yml, timing_side: 0 is not a whole number from 1 to 4096"),
        ({"sets": []}, "c.yml, sets: [] is not a list, each item a text that is a path, not empty"),
        ({"sets": None}, "c.yml: key 'sets' is missing"),
        ({"methods": {}}, "c.yml, methods: {} is not a section of 'key: value' lines not empty"),
        ({"policy": ""}, "c.yml, policy: '' is not one of auto, whole, tile, release"),
        ({"tile": 10**30}, f"c.yml, tile: {10**30} is not a whole number from 1"),
        ({"timing_side": 10**30}, f"c.yml, timing_side: {10**30} is not a whole number from 1"),
        ({"noise_seed": -1}, "c.yml, noise_seed: -1 is not a whole number from 0"),
    ],
)
def test_mistakes_in_the_file_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"task": "graydn", "level": 25, "sets": ["photos"], "methods": {"noisy": {"type": "input"}}}
    Path("c.yml").write_text(yaml.safe_dump(content | change))
    with pytest.raises(UserError) as error:
        read_comparison("c.yml")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_method_of_another_task_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^menon is not for car 10; it is for demosaic$"):
        classical("menon", TaskAtLevel("car", 10))


def test_a_comparison_that_fails_leaves_an_earlier_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, side in (("photos", 24), ("results_of_others", 16)):
        Path(folder).mkdir()
        cv2.imwrite(f"{folder}/a.png", np.full((side, side), 90, np.uint8))

    def compared_at(level: int, methods: dict[str, Any]) -> int:
        content = {"task": "graydn", "level": level, "sets": ["photos"], "timing_side": 16, "methods": methods}
        Path("c.yml").write_text(yaml.safe_dump(content))
        return main(["compare", "c.yml", "--out", "out"])

    def written() -> dict[Path, bytes]:
        return {file: file.read_bytes() for file in Path("out").rglob("*") if file.is_file()}

    noisy, wrong = {"noisy": {"type": "input"}}, {"wrong": {"type": "files", "files": "results_of_others"}}
    assert compared_at(50, noisy | wrong) == 2
    assert not list(Path("out").rglob("*"))
    assert compared_at(50, noisy) == 0
    before = written()
    assert Path("out/c/images/photos/a/noisy.png") in before
    assert compared_at(10, noisy | wrong) == 2
    assert written() == before
    assert compared_at(10, noisy) == 0
    assert written()[Path("out/c/images/photos/a/noisy.png")] != before[Path("out/c/images/photos/a/noisy.png")]
    capsys.readouterr()


def test_a_comparison_replaces_what_it_wrote_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "others"):
        Path(folder).mkdir()
        cv2.imwrite(f"{folder}/a.png", np.full((24, 24), 90, np.uint8))

    def compared_at(level: int, sets: list[str], *methods: str) -> set[str]:
        content = {"task": "graydn", "level": level, "sets": sets, "timing_side": 16}
        Path("c.yml").write_text(yaml.safe_dump(content | {"methods": {name: {"type": "input"} for name in methods}}))
        assert main(["compare", "c.yml", "--out", "out"]) == 0
        return {path.relative_to("out/c").as_posix() for path in Path("out/c").rglob("*")}

    compared_at(10, ["photos", "others"], "noisy", "gone")
    mine = {"images/photos/a/mine.png", "scores/mine_graydn_10_photos.csv"}
    for name in mine:
        Path("out/c", name).write_bytes(b"mine")
    Path("out/mine.csv").write_bytes(b"mine")
    noted = json.loads(Path("out/c/.written.json").read_text())
    Path("out/c/.written.json").write_text(json.dumps([*noted, "../mine.csv", "images/../../mine.csv", 3, ""]))
    there = compared_at(25, ["photos"], "noisy")
    fresh = {"images", "images/photos", "images/photos/a", "scores"}
    fresh |= {f"images/photos/a/{name}.png" for name in ("noisy", "ground truth")}
    fresh |= {f"scores/noisy_graydn_25_photos.{ending}" for ending in ("csv", "json", "md")}
    assert {name for name in there if name.startswith(("images", "scores"))} == fresh | mine
    assert Path("out/mine.csv").exists()
    capsys.readouterr()


def test_paths_of_a_comparison_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder everywhere, and a training is known by its folder or by that of its log."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_log(tmp_path / "tb_logger/x")
    methods: dict[str, Any] = {
        name: {"type": "network", "opt": "~/x.yml", "weights": "~/x.pth", "training": f"~/{name}/x"}
        for name in ("experiments", "tb_logger")
    }
    methods["files"] = {"type": "files", "files": "~/done"}
    content = {"task": "graydn", "level": 25, "sets": ["~/photos"], "methods": methods}
    (tmp_path / "c.yml").write_text(yaml.safe_dump(content))
    comparison = read_comparison(str(tmp_path / "c.yml"))
    assert comparison.sets == [str(tmp_path / "photos")]
    assert comparison.methods["files"].files == str(tmp_path / "done")
    for name in ("experiments", "tb_logger"):
        source = comparison.methods[name]
        assert (source.opt, source.weights) == (str(tmp_path / "x.yml"), str(tmp_path / "x.pth"))
        assert list(training_curves(Path(str(source.training)))) == ["held-out/psnr"]


@pytest.mark.parametrize("out", ["file", "file/below", "loop"])
def test_a_target_that_is_no_folder_is_one_line(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    content = {"task": "graydn", "level": 25, "sets": ["photos"], "methods": {"noisy": {"type": "input"}}}
    Path("c.yml").write_text(yaml.safe_dump(content))
    Path("file").touch()
    Path("loop").symlink_to("loop")
    assert main(["compare", "c.yml", "--out", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "not a folder; name another target" in line
