"""Whole images: policies against each other and against independent formulas, memory that runs out, self-ensemble."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import pytest
import torch

from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.archs.windows import windowed
from rnan_plugin.errors import UserError
from rnan_plugin.inference import parallel
from rnan_plugin.inference import whole_images as inference
from rnan_plugin.inference.ensemble import self_ensembled
from rnan_plugin.inference.policy import Policy, fast_tiles, named_policy, policy_of
from rnan_plugin.inference.tiling import halved, release_parts, tile_axis, tiled
from rnan_plugin.inference.whole_images import restore

SIZES = [(1, 1), (1, 7), (5, 40), (33, 17), (16, 16), (64, 47)]


def net_of(scale=1, seed=0, non_local=True):
    torch.manual_seed(seed)
    net = RNAN(1, 1, num_feat=4, num_rab=1, num_rnab=1, upscale=scale, non_local=non_local).eval()
    for block in net.modules():
        if type(block).__name__ == "NonLocalBlock":
            torch.nn.init.normal_(block.w.weight)  # else it is the identity and sees nothing far away
    return net


def enlarge(scale):
    """A network without context, through which every policy must give the same."""
    return lambda img: img.repeat_interleave(scale, 2).repeat_interleave(scale, 3)


@pytest.mark.parametrize("policy", [Policy("whole"), Policy("tile", 16, 8), Policy("release"), Policy("auto")], ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 3])
def test_any_size_with_any_policy(policy, size, scale):
    lq = torch.rand(2, 1, *size)
    out, used = restore(net_of(scale), lq, policy)
    assert out.shape == (2, 1, size[0] * scale, size[1] * scale)
    assert out.isfinite().all()
    assert used.describe()
    assert not out.requires_grad


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [*SIZES, (150, 201), (101, 230), (12, 1000)])
@pytest.mark.parametrize("overlap", [0, 3, 8])
@pytest.mark.parametrize("tile_batch", [1, 3])
def test_without_context_tiles_change_nothing(scale, size, overlap, tile_batch):
    lq = torch.rand(2, 1, *size)
    expected = enlarge(scale)(lq)
    torch.testing.assert_close(tiled(enlarge(scale), lq, 16, overlap, tile_batch), expected)
    assert torch.equal(halved(enlarge(scale), lq), expected)  # a hard cut: nothing is computed on


def test_tile_batches_are_of_one_size_and_change_only_rounding():
    shapes, net, lq = [], net_of(), torch.rand(1, 1, 50, 41)

    def recording(img):
        shapes.append(tuple(img.shape))
        return net(img)

    with torch.no_grad():
        batched, single = tiled(recording, lq, 16, 4, tile_batch=4), tiled(net, lq, 16, 4)
    assert {shape[1:] for shape in shapes} == {(1, 16, 15)}
    assert {shape[0] for shape in shapes[:-1]} == {4}
    torch.testing.assert_close(batched, single)


def test_a_tile_as_large_as_the_image_is_the_whole():
    net, lq = net_of(), torch.rand(1, 1, 20, 33)
    whole, _ = restore(net, lq, Policy("whole"))
    assert torch.equal(restore(net, lq, Policy("tile", 33, 8))[0], whole)
    assert not torch.equal(restore(net, lq, Policy("tile", 16, 8))[0], whole)


def test_tiles_blend_without_a_step():
    """Tiles that disagree meet in a ramp: no jump of neighbouring pixels larger than a ramp's step."""
    values = iter([0.0, 1.0])
    out = tiled(lambda patch: torch.full_like(patch, next(values)), torch.zeros(1, 1, 16, 24), 16, 8)
    steps = out[0, 0, 0].diff()
    assert out[0, 0, 0, 0] == 0
    assert out[0, 0, 0, -1] == 1
    assert (steps >= 0).all()
    assert steps.max() < 0.2


def test_tiles_along_an_axis():
    sizes = [(100, 32, 8), (1000, 64, 32), *itertools.product(range(2, 40), range(1, 40), range(20))]
    for length, tile, overlap in ((n, t, o) for n, t, o in sizes if t < n and o <= t // 2):
        side, starts = tile_axis(length, tile, overlap)
        assert side <= tile
        assert starts[0] == 0
        assert starts[-1] == length - side
        assert all(0 < b - a <= side - overlap for a, b in itertools.pairwise(starts))
        # No pixel more than needed.
        assert len(starts) * side - (len(starts) - 1) * (overlap + 1) < length + 2 * len(starts)
        assert tile - overlap <= 3 or not any(start % 2 for start in starts)
        assert tile_axis(tile, tile, overlap) == (tile, [0])


def test_release_cuts_by_hand():
    """256×256: halves of 128 take 4 * 32 + 12 = 140, whose halves of 70 take 4 * 17 + 12 = 80; cut hard."""
    sizes = []

    def recording(img):
        sizes.append(tuple(img.shape[2:]))
        return torch.full_like(img, len(sizes))

    out = halved(recording, torch.zeros(1, 1, 256, 256))
    assert sizes == [(80, 80)] * 16
    assert len(out.unique()) == 16
    assert out[0, 0, 127, 127] != out[0, 0, 128, 127]
    assert out[0, 0, 127, 127] != out[0, 0, 127, 128]
    sizes.clear()
    halved(recording, torch.zeros(1, 1, 31, 50))  # small images are cut, too: 4 * 3 + 12 and 4 * 6 + 12
    assert sizes == [(24, 36)] * 4


class Recording(torch.nn.Module):
    """Enlarges without context; keeps which part of the image of its own numbers it saw."""

    def __init__(self, scale, *, tells):
        super().__init__()
        self.scale, self.places = scale, []
        if tells:
            self.upscale = scale

    def forward(self, img):
        place = (*(int(number) for number in img[0, :, 0, 0]), *img.shape[2:])
        self.places.append(place)
        marks = torch.full((1, 1, *img.shape[2:]), float(len(self.places)))
        return enlarge(self.scale)(marks)


def numbered(size):
    rows, columns = (torch.arange(length, dtype=torch.float32) for length in size)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]


@pytest.mark.skipif("RNAN_REFERENCE_DIR" not in os.environ, reason="RNAN_REFERENCE_DIR is not set")
@pytest.mark.parametrize(("kind", "scale"), [("restoration", 1), ("super-resolution", 2)])
@pytest.mark.parametrize("tells", [True, False])
def test_release_cuts_as_it_was_measured(kind, scale, tells):
    file = Path(os.environ["RNAN_REFERENCE_DIR"], "reference/release_chop.json")
    measured = json.loads(file.read_text(encoding="utf-8"))
    (by_size,) = (sizes for name, sizes in measured.items() if name.startswith(kind))
    assert len(by_size) >= 6
    for name, cut in by_size.items():
        size = tuple(map(int, name.split("x")))
        net = Recording(scale, tells=tells)
        out, _ = restore(net, numbered(size), Policy("release"))
        leaves = [tuple(leaf) for leaf in cut["leaves"]]
        places = net.places[-len(leaves) :] if scale > 1 and not tells and len(net.places) > len(leaves) else net.places
        assert places == leaves
        last = {place: index for index, place in enumerate(net.places, start=1)}
        for place, (top, left, height, width) in zip(leaves, cut["kept"], strict=True):
            assert (out[0, 0, top : top + height, left : left + width] == last[place]).all()


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (15, 16), (19, 400), (23, 24), (24, 3000), (150, 201), (511, 769)])
@pytest.mark.parametrize("enlarging", [True, False])
def test_release_parts_cover_every_pixel_once(size, enlarging):
    seen = torch.zeros(size, dtype=torch.int)
    limit = 30_000 if enlarging else 10_000
    for (top, left, height, width), (keep_top, keep_left, keep_height, keep_width) in release_parts(
        size, enlarging=enlarging
    ):
        assert height * width < limit
        assert min(top, left) >= 0
        assert top + height <= size[0]
        assert left + width <= size[1]
        if keep_height * keep_width:
            assert top <= keep_top
            assert left <= keep_left
            assert keep_top + keep_height <= top + height
            assert keep_left + keep_width <= left + width
            seen[keep_top : keep_top + keep_height, keep_left : keep_left + keep_width] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("policy", [Policy("whole"), Policy("tile", 16, 4), Policy("release")], ids=str)
def test_self_ensemble_is_the_mean_of_eight(policy):
    net, lq = net_of(), torch.rand(1, 1, 21, 30)
    out, used = restore(net, lq, Policy(policy.name, policy.tile, policy.overlap, self_ensemble=True))
    outputs = []
    for transpose, down, across in itertools.product((False, True), repeat=3):
        img = lq.transpose(2, 3) if transpose else lq
        dims = [axis for axis, flag in ((2, down), (3, across)) if flag]
        turned = restore(net, img.flip(dims).contiguous(), policy)[0].flip(dims)
        outputs.append(turned.transpose(2, 3) if transpose else turned)
    torch.testing.assert_close(out, torch.stack(outputs).mean(0))
    assert "self-ensemble" in used.describe()


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        (Policy("whole"), 1),
        (Policy("tile", 64, 8), 2 * 3),
        (Policy("tile", 64, 8, tile_batch=4), 2),
        (Policy("tile", 64, 8, self_ensemble=True), 8 * 2 * 3),
        (Policy("release"), 4),
    ],
    ids=str,
)
def test_progress_tells_what_is_done_and_how_much_there_is(policy, passes):
    told = []
    restore(enlarge(2), torch.rand(1, 1, 90, 150), policy, lambda *numbers: told.append(numbers))
    assert told == [(done, passes) for done in range(1, passes + 1)]


TURNS = {
    "down": lambda img: img.flip(2),
    "across": lambda img: img.flip(3),
    "transpose": lambda img: img.transpose(2, 3),
    "quarter": lambda img: img.rot90(1, [2, 3]),
}


@pytest.mark.parametrize("turn", TURNS.values(), ids=TURNS)
def test_self_ensemble_commutes_with_flips_and_transposes_to_the_bit(turn):
    net, lq = net_of(), torch.rand(1, 1, 18, 23)
    with torch.no_grad():
        assert torch.equal(self_ensembled(net, turn(lq).contiguous()), turn(self_ensembled(net, lq)))
        assert not torch.equal(net(turn(lq).contiguous()), turn(net(lq)))


def test_auto_takes_the_largest_that_fits(monkeypatch):
    lq = torch.rand(1, 1, 300, 200)
    monkeypatch.setattr(inference, "at_a_time", lambda _: 1)
    taken = {}
    for budget in (2**40, 15e6, 5e6, 0):  # 192 bytes a pixel, of which 70 % may be planned with
        monkeypatch.setattr(inference, "available_bytes", lambda _, budget=budget: budget)
        taken[budget] = next(inference._candidates(net_of(non_local=False), lq, Policy("auto")))
    assert [(policy.name, policy.tile) for policy in taken.values()] == [
        ("whole", 128),
        ("tile", 256),
        ("tile", 128),
        ("tile", 32),
    ]


def test_auto_counts_blocks_of_attention(monkeypatch):
    """4 096 positions in a batch of 3 take 2 MiB for maps of 4 channels, and 4 MiB for each block of pairs."""
    monkeypatch.setattr(inference, "at_a_time", lambda _: 1)
    monkeypatch.setattr(inference, "available_bytes", lambda _: 6 * 2**20)
    attending = net_of()
    without = torch.nn.Sequential(*(module for module in attending.modules() if isinstance(module, torch.nn.Conv2d)))
    lq = torch.rand(3, 1, 64, 64)
    taken = [next(inference._candidates(net, lq, Policy("auto"))) for net in (without, attending)]
    assert [(policy.name, policy.tile) for policy in taken] == [("whole", 128), ("tile", 32)]


def test_auto_takes_what_is_fastest_on_a_cpu(monkeypatch):
    """Attention of all pairs costs more in larger tiles, but not in windows; without it whole images serve best."""
    monkeypatch.setattr(inference, "available_bytes", lambda _: 2**40)
    over_queries = RNAN(1, 1, num_feat=4, num_rab=1, num_rnab=1, softmax_over="queries")
    lq = torch.rand(1, 1, 300, 200)
    for net, asked, expected in (
        (net_of(), Policy(), "tile192w48"),
        (net_of(), Policy(window=32), "tile192w32"),
        (over_queries, Policy(), "tile64"),
        (net_of(non_local=False), Policy(), "whole"),
        (net_of(non_local=False), Policy(window=32), "whole"),
    ):
        assert restore(net, lq, asked)[1].label == expected
    with pytest.raises(UserError, match=r"window .*normalised over the queries.*leave it out"):
        restore(over_queries, lq, Policy(window=32))


def test_the_fastest_tiles_step_down_with_memory(monkeypatch):
    monkeypatch.setattr(inference, "at_a_time", lambda _: 1)
    lq, taken = torch.rand(1, 1, 300, 200), []
    for budget in (2**40, 18e6, 14e6, 0):  # 192 bytes a pixel and 8 MiB for blocks, of which 70 % may be planned with
        monkeypatch.setattr(inference, "available_bytes", lambda _, budget=budget: budget)
        taken.append(next(inference._candidates(net_of(), lq, Policy())).label)
    assert taken == ["tile192w48", "tile128w48", "tile64w48", "tile32w48"]


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate"),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
def test_auto_steps_down_when_memory_runs_out(error):
    """Memory for 64×64 positions only."""
    net = net_of()

    def small(img):
        if img.shape[2] * img.shape[3] > 64**2:
            raise error
        return net(img)

    lq = torch.rand(1, 1, 150, 100)
    out, used = restore(small, lq, Policy("auto"))
    assert (used.name, used.tile) == ("tile", 64)
    assert torch.equal(out, restore(net, lq, Policy("tile", 64, 8))[0])
    with pytest.raises(type(error)):
        restore(small, lq, Policy("whole"))  # who asked for whole gets whole or an error


def test_other_errors_are_not_swallowed():
    def broken(_):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        restore(broken, torch.rand(1, 1, 8, 8), Policy("auto"))


@pytest.mark.parametrize(
    "arguments",
    [{"name": "tiles"}, {"tile": 0}, {"overlap": -1}, {"tile": 16, "overlap": 9}, {"tile_batch": 0}, {"window": 0}],
)
def test_wrong_policies(arguments):
    with pytest.raises(UserError, match=r"policy|tile|tile_overlap|tile_batch|attention_window"):
        Policy(**arguments)


def test_attention_stays_within_the_windows_of_tiles():
    """One tile, so that the windows alone make a difference."""
    net, lq = net_of(), torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        everywhere, within = net(lq), windowed(net, 12)(lq)
    assert not torch.allclose(everywhere, within, atol=1e-4)
    for policy, expected in (
        (Policy("tile", 40, 8, window=12), within),
        (Policy("tile", 40, 8, window=40), everywhere),
        (Policy("tile", 40, 8), everywhere),
        (Policy("whole"), everywhere),
    ):
        torch.testing.assert_close(restore(net, lq, policy)[0], expected)


@pytest.mark.parametrize("ensemble", [False, True])
def test_windows_reach_every_tile_in_every_thread(ensemble, monkeypatch):
    """Several tiles in the threads of the pool, against each tile by itself."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(parallel, "at_a_time", lambda _: 3)
    net, lq = net_of(2), torch.rand(1, 1, 50, 70)
    out, _ = restore(net, lq, Policy("tile", 30, 6, self_ensemble=ensemble, window=12))
    torch.set_num_threads(threads)  # which the pool has made 3

    def within(img):
        return tiled(windowed(net, 12), img, 30, 6)

    monkeypatch.setattr(parallel, "at_a_time", lambda _: 1)
    with torch.no_grad():
        expected = self_ensembled(within, lq) if ensemble else within(lq)
    torch.testing.assert_close(out, expected)
    everywhere = restore(net, lq, Policy("tile", 30, 6, self_ensemble=ensemble))[0]
    assert (out - everywhere).abs().max() > 100 * (out - expected).abs().max()


@pytest.mark.parametrize("name", ["whole", "release"])
def test_only_tiles_have_windows(name):
    with pytest.raises(UserError, match=f"window .*is of tiles: leave it out, or policy {name}"):
        Policy(name, window=48)


def test_windows_are_told():
    policy = Policy("tile", 128, 8, window=48)
    assert (policy.label, policy.describe()) == (
        "tile128w48",
        "tile 128, overlap 8, blended, attention in windows of 48",
    )
    assert fast_tiles(Policy(self_ensemble=True)) == Policy("tile", 192, 8, self_ensemble=True, window=48)
    assert named_policy(window=48) == Policy("tile", 128, 16, window=48)
    assert policy_of({"policy": "tile", "tile": 128, "tile_overlap": 8, "attention_window": 48}) == policy
