"""The model class in this process: losses, EMA, metrics against NumPy, whole images in tiles, panels."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.images.codec import encode_png
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.images.tensors import to_image
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.whole_images import restore
from rnan_plugin.training.model import RestorationModel
from rnan_plugin.training.validation import make_panel

NETWORK = {"type": "RNAN", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_rab": 1, "num_rnab": 1}


def build_model(path=None, **train):
    import rnan_plugin.training.connect  # noqa: F401

    opt = {
        "name": "x",
        "model_type": "RestorationModel",
        "num_gpu": 0,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "is_train": True,
        "network_g": NETWORK,
        "path": path or {},
        "train": {
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.999]},
            "scheduler": {"type": "MultiStepLR", "milestones": [2, 4], "gamma": 0.5},
            "pixel_opt": {"type": "MSELoss", "loss_weight": 1.0, "reduction": "mean"},
            **train,
        },
        "val": {
            "policy": "tile",
            "tile": 16,
            "tile_overlap": 4,
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}},
        },
    }
    torch.manual_seed(0)
    return RestorationModel(copy.deepcopy(opt))


def batch(count=2, size=(12, 13)):
    torch.manual_seed(1)
    gt = torch.rand(count, 1, *size)
    return {"lq": (gt + 0.1 * torch.randn_like(gt)).clamp(0, 1), "gt": gt}


@pytest.mark.parametrize(("loss", "power"), [("MSELoss", 2), ("L1Loss", 1)])
def test_loss_is_the_one_asked_for_and_falls(loss, power):
    model = build_model(pixel_opt={"type": loss, "loss_weight": 1.0, "reduction": "mean"})
    data = batch()
    model.feed_data(data)
    with torch.no_grad():
        expected = (model.net_g(data["lq"]) - data["gt"]).abs().pow(power).mean().item()
    model.optimize_parameters(1)
    assert model.get_current_log()["l_pix"] == pytest.approx(expected, rel=1e-5)
    for iteration in range(2, 30):
        model.feed_data(data)
        model.optimize_parameters(iteration)
    assert model.get_current_log()["l_pix"] < 0.9 * expected


def test_learning_rate_is_halved_at_the_milestones():
    model = build_model()
    rates = []
    for iteration in range(1, 7):
        model.update_learning_rate(iteration)
        rates.append(model.get_current_learning_rate()[0])
        model.feed_data(batch())
        model.optimize_parameters(iteration)
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4])


class Images(torch.utils.data.Dataset):
    opt = {"name": "set"}  # noqa: RUF012 - the toolbox reads it so

    def __init__(self, count):
        self.items = [batch(1, (35 + index, 21)) for index in range(count)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        item = self.items[index]
        return {"lq": item["lq"][0], "gt": item["gt"][0], "lq_path": f"{index}.png", "gt_path": f"{index}.png"}


class Recorder:
    def __init__(self):
        self.images, self.scalars = {}, {}

    def add_image(self, tag, image, step):
        self.images[tag, step] = image

    def add_scalar(self, tag, value, step):
        self.scalars[tag, step] = value


@pytest.mark.parametrize("ema_decay", [0, 0.5])
def test_validation_equals_numpy_and_shows_panels(ema_decay):
    model = build_model(ema_decay=ema_decay)
    model.feed_data(batch())
    model.optimize_parameters(1)
    data, recorder = Images(4), Recorder()
    model.validation(DataLoader(data), 7, recorder, save_img=False)

    net = model.net_g_ema if ema_decay else model.net_g
    scores = []
    for item in data.items:
        out, _ = restore(net, item["lq"], Policy("tile", 16, 4))
        restored, gt = ((img[0, 0].clamp(0, 1).double().numpy() * 255).round() for img in (out, item["gt"]))
        scores.append(10 * np.log10(255**2 / np.mean((restored - gt) ** 2)))
    assert recorder.scalars["metrics/set/psnr", 7] == pytest.approx(np.mean(scores), abs=1e-6)
    assert len(recorder.images) == 3  # the first three of four
    assert model.net_g.training  # goes on training afterwards


@pytest.fixture
def fails_for_small_images():
    """A metric that some images have no value of, as NIQE has none of images below 192 pixels."""
    from rnan_plugin.toolbox.api import METRIC_REGISTRY

    def calculate_width(img, **_):
        if img.shape[0] < 37:
            raise AssertionError("image is too small\nfor blocks")
        return img.shape[0]

    METRIC_REGISTRY.register(calculate_width)
    yield
    del METRIC_REGISTRY._obj_map["calculate_width"]


@pytest.mark.usefixtures("fails_for_small_images")
def test_a_metric_that_cannot_judge_an_image_is_told_and_ends_nothing(caplog):
    model, data = build_model(), Images(4)
    small = batch(1, (8, 8))
    model.opt["val"]["metrics"] |= {
        "niqe": {"type": "calculate_niqe", "crop_border": 0, "better": "lower"},
        "width": {"type": "calculate_width"},
    }
    model.opt["logger"] = {"save_best": "niqe"}
    saved = []
    model._save_best = lambda: saved.append(1)
    caplog.set_level("WARNING", "basicsr")
    model.validation(DataLoader(data), 7, None, save_img=False)
    assert model.metric_results["width"] == 37.5  # of 37 and 38
    assert np.isnan(model.metric_results["niqe"])
    assert model.best_metric_results["set"]["niqe"]["iter"] == -1
    assert not saved
    lines = [record.message for record in caplog.records]
    of_the_others = "the mean is that of the others"
    assert f"set: no width of 2 of 4 image(s) (image is too small for blocks); {of_the_others}" in lines
    assert any(line.startswith("set: no niqe of 4 of 4 image(s) (") for line in lines)

    data.items = [small]  # SSIM's window does not fit: not a number
    model.opt["val"]["metrics"] = {"ssim": {"type": "calculate_ssim", "crop_border": 0}}
    model.opt["logger"] = {"save_best": "ssim"}
    model.validation(DataLoader(data), 8, None, save_img=False)
    assert caplog.records[-1].message.endswith("it is nan, and nothing is best by it")


@pytest.mark.parametrize("is_train", [True, False])
def test_restored_images_of_any_name_are_saved(tmp_path, is_train):
    """Names that are no UTF-8, of which OpenCV's writer dies, and the longest; in a folder of such a name."""
    names = [os.fsdecode(b"caf\xe9"), "n" * 251]
    for name in names:
        (tmp_path / f"{name}.png").write_bytes(encode_png(np.full((20, 31, 1), 9, np.uint8)))
    model, out = build_model(), tmp_path / os.fsdecode(b"r\xe9sults")
    model.opt |= {"is_train": is_train, "path": {"visualization": str(out)}}
    opt = {
        "name": "set",
        "type": "RestorationDataset",
        "phase": "val",
        "channels": "gray",
        "dataroot_gt": str(tmp_path),
    }
    data = RestorationDataset({**opt, "degradation": {"type": "awgn", "sigma": 5}})
    model.validation(DataLoader(data), 100000, None, save_img=True)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    assert len(files) == 2
    assert files[0].name == ("caf\\xe9_100000.png" if is_train else "caf\\xe9_x.png")
    assert files[1].name.startswith("n" * 200)
    for file, sample in zip(files, data, strict=True):
        expected, _ = restore(model.net_g, sample["lq"][None], Policy("tile", 16, 4))
        np.testing.assert_array_equal(decode_image(file.read_bytes(), "")[..., 0], to_image(expected)[..., 0])


def test_validation_never_calls_the_wrapped_network():
    """Rank 0 validates alone; a call through the wrapper would wait for the other ranks."""
    model = build_model()
    bare = model.net_g

    class Wrapper(torch.nn.parallel.DistributedDataParallel):
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.module = bare

        def forward(self, *_):
            raise AssertionError("called")

    model.net_g = Wrapper()
    model.feed_data(batch(1))
    model.test()
    assert model.output.shape == (1, 1, 12, 13)


def test_panel_is_input_output_truth():
    lq, output, gt = torch.zeros(1, 3, 10, 10), torch.full((1, 3, 20, 20), 0.5), torch.full((1, 3, 20, 20), 2.0)
    panel = make_panel(lq, output, gt)
    assert panel.shape == (3, 20, 60)
    assert panel[0, 0].tolist() == [0.0] * 20 + [0.5] * 20 + [1.0] * 20
    assert make_panel(*[torch.zeros(1, 1, 700, 300)] * 3).shape == (1, 256, 768)


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize("root", ["set", "set.lmdb"])
def test_images_of_one_name_keep_their_folders(is_train, root):
    model = build_model()
    dataset = {"name": "photos", "dataroot_gt": root}
    model.opt |= {"is_train": is_train, "datasets": {"train": {}, "val": dataset}}
    model.opt["path"]["visualization"] = "shown"
    files = [str(model._image_file(dataset, f"{root}/{name}.png", 7)) for name in ("a/x", "b/x", "x.y")]
    shown = {True: ["a/x/x_7", "b/x/x_7", "x.y/x.y_7"], False: ["photos/a/x_x", "photos/b/x_x", "photos/x.y_x"]}
    assert files == [f"shown/{name}.png" for name in shown[is_train]]


def test_images_of_two_validation_sets_do_not_meet():
    model = build_model()
    model.opt |= {"datasets": {"train": {}, "val": {}, "val_2": {}}}
    model.opt["path"]["visualization"] = "shown"
    sets = [{"name": name, "dataroot_lq": f"{name}/lq", "dataroot_gt": f"{name}/gt"} for name in ("one", "two")]
    files = [str(model._image_file(entry, f"{entry['name']}/lq/x.png", 7)) for entry in sets]
    assert files == ["shown/one/x/x_7.png", "shown/two/x/x_7.png"]
