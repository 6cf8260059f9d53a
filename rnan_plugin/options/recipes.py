"""What each shipped option file holds, built from the tasks' rows; those of the package's networks: `small_recipes`.

`layout` makes the text, `shipped_files` lists the files.

Every function returns a whole file. What a family of files differs in stands here once, and nothing is said about a
task that its row in `rnan_plugin.paper.tasks` can say.
"""

from __future__ import annotations

from dataclasses import dataclass

from rnan_plugin.archs.rnan_arch import RELEASED
from rnan_plugin.choices import NetworkName
from rnan_plugin.errors import UserError
from rnan_plugin.options.inputs import Inputs, inputs_of
from rnan_plugin.options.layout import lay_out
from rnan_plugin.options.networks import Section, msrresnet, network_section, rnan, small_rnan
from rnan_plugin.options.parts import (
    cosine,
    data_set,
    metrics,
    paper_training,
    patches,
    small_training,
    testing,
    tiles,
    training,
)
from rnan_plugin.paper.tables import all_published


@dataclass(frozen=True)
class OptionFile:
    """A whole option file.

    Args:
        options: Sections, keys and values in the order of the file.
        about: Lines of the comment at its top.
        folder: Below `options/`, such as "small"; empty for the files there.
    """

    options: Section
    about: tuple[str, ...]
    folder: str = ""

    @property
    def name(self) -> str:
        """The key `name`, which is the file's without ending."""
        return str(self.options["name"])

    @property
    def path(self) -> str:
        """Below `options/`: "small/train_RNAN_small_CAR_q10.yml"."""
        return f"{self.folder}/{self.name}.yml" if self.folder else f"{self.name}.yml"

    @property
    def text(self) -> str:
        """What the file holds."""
        return lay_out(self.options, self.about)


def paper(inputs: Inputs) -> OptionFile:
    """The paper's training (section 3.4) on DIV2K."""
    about = f"{inputs.heading}: the paper's training (RNAN, section 3.4) on DIV2K."
    network = network_section("RNAN", inputs.num_channel, inputs.scale)
    return OptionFile(paper_training(f"train_RNAN_{inputs.tag}", inputs, network), (about,))


def compare(network: NetworkName, inputs: Inputs) -> OptionFile:
    """The paper's training with a network of BasicSR in RNAN's place.

    Raises:
        UserError: The network is not written for such inputs.
    """
    section = network_section(network, inputs.num_channel, inputs.scale)
    kind = section["type"]
    subject = f"BasicSR's {kind}" if kind == network else f"{network} at the input's size"
    about = f"{subject} for {inputs.title}: data, patch and schedule of the paper's training of RNAN."
    return OptionFile(paper_training(f"train_{kind}_{inputs.tag}", inputs, section), (about,), "compare")


def small_data(training_set: str, inputs: Inputs) -> OptionFile:
    """Table 8: the paper's training on all of BSD400 or SR291, looked at on the table's sets."""
    like = paper(inputs)
    about = f"Table 8: as options/{like.path}, trained on all of {training_set} (prepare --set {training_set.lower()})."
    column = (8, inputs.task.name, inputs.task.level, training_set)
    rows = (row for row in all_published() if (row.table, row.task, row.level, row.training_set) == column)
    sets = dict.fromkeys(row.image_set for row in rows)
    options = paper_training(
        like.name.replace("RNAN_", f"RNAN_{training_set}_", 1),
        inputs,
        like.options["network_g"],
        train=(training_set, f"datasets/{training_set}_whole.lmdb"),
        sets=list(sets),
    )
    return OptionFile(options, (about,), "small_data")


# Of Table 1, in its order: mask branches, non-local blocks, number of RAB and of RNAB.
ABLATION_CASES = (
    (False, False, 7, 0),
    (True, False, 7, 0),
    (False, True, 5, 2),
    (True, True, 5, 2),
    (True, True, 1, 1),
    (True, True, 2, 2),
    (True, True, 5, 1),
    (True, True, 8, 2),
)


def ablation(case: int) -> OptionFile:
    """A case of Table 1, counted from 1: colour noise of sigma 30, looked at on Urban100."""
    mask, non_local, num_rab, num_rnab = ABLATION_CASES[case - 1]
    left_out = {"mask_branch": "no mask branches"} if not mask else {}
    left_out |= {"non_local": "no non-local blocks"} if not non_local else {}
    parts = ", ".join([f"{num_rab} RAB", f"{num_rnab} RNAB", *left_out.values()])
    about = f"Case {case} of Table 1 (colour denoising, sigma 30): {parts}."
    inputs = inputs_of("colordn", 30)
    network = rnan(inputs.num_channel, inputs.scale, num_rab=num_rab, num_rnab=num_rnab)
    network |= dict.fromkeys(left_out, False)
    options = paper_training(f"train_RNAN_case{case}", inputs, network, sets=["Urban100"])
    return OptionFile(options, (about,), "ablation")


# Against the saturation of mask branches at the rates of short trainings; see docs/training_small.md.
IDENTITY_START: Section = {"identity_start": True}
SLOW_MASKS: Section = {"mask_lr_mult": 0.1}


# Networks of about the same number of weights: what they are, the section, and the steps of the same minutes.
EQUAL_BUDGET: dict[str, tuple[str, Section, int]] = {
    "MSRResNet": ("MSRResNet", msrresnet(1, 1, num_feat=48, num_block=9), 23_100),
    "RNAN": ("RNAN", small_rnan(1, 1), 15_750),
    "RNAN_local": ("RNAN without non-local block", small_rnan(1, 1) | {"non_local": False}, 22_500),
    "RNAN_no_mask": (
        "RNAN without mask branch (more and longer trunks instead)",
        small_rnan(1, 1) | {"num_rab": 2, "num_trunk_res": 3, "mask_branch": False},
        15_370,
    ),
}


def equal_budget(network: str) -> OptionFile:
    """One of `EQUAL_BUDGET`, trained for the same minutes of one core as the others."""
    subject, section, steps = EQUAL_BUDGET[network]
    inputs = inputs_of("car", 10)
    about = (
        f"Equal budget: {subject}, the same minutes of one core as the others of this folder (docs/equal_budget.md)."
    )
    name = f"train_equal_{network}_{inputs.tag}"
    step: Section = {}
    if section["type"] == "RNAN":  # MSRResNet begins near the identity by itself
        step = IDENTITY_START | (SLOW_MASKS if section.get("mask_branch", True) else {})
    options = small_training(
        name, inputs, section, learning_rate=1e-3, steps=steps, looked_every=steps // 10, step=step
    )
    return OptionFile(options, (about,), "equal_budget")


def quickstart() -> OptionFile:
    """A training of minutes on photographs that come with a library."""
    inputs = inputs_of("car", 10)
    about = "A small RNAN for JPEG artefact reduction that trains in minutes on a laptop;"
    train_set = data_set("scikit-image photographs", "datasets/quickstart/train.lmdb", inputs, inputs.drawn())
    held_out = data_set("held-out", "datasets/quickstart/val.lmdb", inputs, inputs.looked_at())
    options = training(
        f"quickstart_RNAN_{inputs.tag}",
        inputs,
        datasets={"train": train_set | patches(48, workers=1, batch=8, enlarge=250), "val": held_out},
        network=small_rnan(inputs.num_channel, inputs.scale),
        train=IDENTITY_START | cosine(1e-3, 250, lowest=1e-5, warmup=-1, loss=inputs.task.row.loss),
        val={"val_freq": 150, "save_img": True, **tiles(128, 16), **metrics(inputs)},
        logger={"print_freq": 20, "save_checkpoint_freq": 100},
    )
    return OptionFile(options, (f"{about} bash scripts/quickstart.sh runs it.",))


def test(trained: OptionFile, inputs: Inputs) -> OptionFile:
    """The test of what a file trains, on the task's image sets.

    Raises:
        UserError: The task's row has no image sets.
    """
    about = f"{inputs.heading}: what {trained.name}.yml trained, on {_sets_in_words(inputs)}."
    weights = f"experiments/{trained.name}/models/net_g_latest.pth"
    name = trained.name.replace("train_", "test_", 1)
    return OptionFile(testing(name, inputs, trained.options, weights), (about,))


def released(inputs: Inputs) -> OptionFile:
    """The test of the authors' weights.

    Raises:
        UserError: They released none for such inputs.
    """
    weights = inputs.task.released if inputs.are_the_papers else None
    if weights is None:
        levels = ", ".join(f"{level:g}" for level in inputs.task.row.levels)
        have = f"; there are weights for {inputs.task.name} {levels}" if levels and inputs.task.row.released else ""
        raise UserError(f"released: the authors released no weights for {inputs.title}{have}")
    about = (
        f"{inputs.heading}: the released weights on {_sets_in_words(inputs)}. First:",
        f"mkdir -p weights && python -m rnan_plugin convert {weights}.pt weights/{weights}.pth",
    )
    options = testing(f"test_RNAN_released_{inputs.tag}", inputs, paper(inputs).options, f"weights/{weights}.pth")
    options["network_g"] |= RELEASED
    return OptionFile(options, about)


def _sets_in_words(inputs: Inputs) -> str:
    """The image sets of the task's row, with the first table of the paper that is about it."""
    tables = sorted({row.table for row in all_published() if row.task == inputs.task.name})
    return f"the paper's sets (Table {tables[0]})" if tables else "the task's sets"
