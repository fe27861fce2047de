"""Test the contract that every architecture keeps, and that each is what its name says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from deepfake_detect.errors import MissingExtra, UnknownModel, UnknownWeights
from deepfake_detect.models.head import head_of, last_linear
from deepfake_detect.models.registry import create_model, imagenet_home, list_models, native_mean_std, native_size_px
from deepfake_detect.models.transfer import take_over

SMALL = ("cnn-simple", "cnn4", "cnn6", "cnn6-dropout", "meso4", "mesoinception4")
SIDES = {
    "xception": 75,
    "xception-dense": 80,
    "vgg16": 32,
    "efficientnet-b0": 64,
    "efficientnet-b4": 64,
}  # others run at their native side
X, MOBILE = "timm:legacy_xception", "timm:mobilenetv2_100"
NAMES = [*list_models(), "timm:test_efficientnet", "timm:test_vit"]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def pictures(count: int, name: str) -> Tensor:
    side = SIDES.get(name) or native_size_px(name)
    return 2 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) - 1


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def settled(name: str) -> nn.Module:
    """Build a model whose batch norms have seen pictures: without that, the logits of deep ones are all but zero."""
    model = create_model(name, seed=0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean
    with torch.no_grad():
        model(pictures(4, name))
    return model


def trains_at_random(model: nn.Module, name: str) -> bool:
    torch.manual_seed(0)
    batch = pictures(2, name)
    with torch.no_grad():
        return not torch.equal(model.train()(batch), model(batch))


def test_built_in_training_mode(name: str) -> None:
    with torch.device("meta"):
        assert create_model(name).training


def test_one_logit_for_each_picture_whatever_stands_beside_it(settled: nn.Module, name: str) -> None:
    settled.eval()
    batch = pictures(4, name)
    with torch.no_grad():
        logit = settled(batch)
        alone = torch.cat([settled(batch[row : row + 1]) for row in range(4)])
        again = settled(batch)
    assert logit.shape == alone.shape == (4,)
    assert logit.dtype == torch.float32
    assert logit.isfinite().all()
    assert logit.std() > 0
    assert (logit - alone).abs().max() < 1e-3 * logit.std() + 1e-6 * logit.abs().max()
    assert torch.equal(logit, again)


def test_state_dict_gives_the_same_logit_to_the_bit(settled: nn.Module, name: str) -> None:
    stored = safetensors.torch.save(settled.state_dict())
    with torch.device("meta"):  # nothing but the state dict fills it
        clone = create_model(name).eval()
    clone.load_state_dict(safetensors.torch.load(stored), assign=True)
    with torch.no_grad():
        assert torch.equal(clone(pictures(2, name)), settled.eval()(pictures(2, name)))


def test_gradient_reaches_every_parameter(settled: nn.Module, name: str) -> None:
    torch.manual_seed(0)
    truth = torch.tensor([0.0, 1.0, 0.0, 1.0])
    nn.functional.binary_cross_entropy_with_logits(settled.train()(pictures(4, name)), truth).backward()
    left_out = [key for key, value in settled.named_parameters() if value.grad is None or not value.grad.any()]
    assert not left_out


@pytest.mark.parametrize("name", [*SMALL, "xception", "timm:test_vit"])
def test_seed_fixes_the_weights_and_spares_the_global_state(name: str) -> None:
    torch.manual_seed(7)
    before = torch.get_rng_state()
    one, same, other = (create_model(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_without_seed_the_global_state_is_used() -> None:
    torch.manual_seed(7)
    first, second = create_model("meso4").state_dict(), create_model("meso4").state_dict()
    torch.manual_seed(7)
    repeated = create_model("meso4").state_dict()
    key = "head.hidden.weight"
    assert torch.equal(first[key], repeated[key])
    assert not torch.equal(first[key], second[key])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("meso4", 27_977),  # the paper's own counts
        ("mesoinception4", 28_615),
        ("xception", 22_855_952 - 999 * 2049),  # the known counts, for 1 class in place of 1000
        ("vgg16", 138_357_544 - 999 * 4097),
        ("efficientnet-b0", 5_288_548 - 999 * 1281),
        ("efficientnet-b4", 19_341_616 - 999 * 1793),
        ("cnn-simple", (27 * 32 + 32) + (288 * 64 + 64) + (576 * 128 + 128) + 129),
    ],
)
def test_number_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        assert sum(value.numel() for value in create_model(name).parameters()) == parameters


@pytest.mark.parametrize("size_px", [64, 128, 160, 192, 224])
def test_a_dense_xception_says_for_each_place_of_16_pixels_whether_it_is_forged(size_px: int) -> None:
    model = create_model("xception-dense", seed=0).eval()
    with torch.no_grad():
        batch = torch.rand(2, 3, size_px, size_px)
        logit, places = model.localise(batch)
        assert torch.equal(logit, model(batch))
    assert logit.shape == (2,)
    assert places.shape == (2, size_px // 16, size_px // 16)


def test_a_dense_xception_sees_a_change_where_it_is() -> None:
    model = create_model("xception-dense", seed=0).eval()
    model.net.dense.weight.data.fill_(1.0)
    batch = torch.zeros(1, 3, 224, 224)
    changed = batch.clone()
    changed[..., 192:, 192:] = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        away = (model.localise(changed)[1] - model.localise(batch)[1]).abs()[0]
    assert away[10:, 10:].mean() > 5 * away[:4, :4].mean()


def test_a_network_without_a_map_says_so() -> None:
    with pytest.raises(UnknownModel, match="xception-dense"):
        create_model("xception").localise(torch.zeros(1, 3, 64, 64))


def test_a_dense_xception_begins_with_the_weights_of_a_plain_one() -> None:
    plain, dense = create_model("xception", seed=1), create_model("xception-dense", seed=0)
    taken = take_over(dense, plain.state_dict())
    new = ("fine", "deep", "conv6", "bn6", "dense", "fc")
    assert all(name.startswith(tuple(f"net.{part}" for part in new)) for name in taken.new)


def test_cnn4_is_drawn_as_described() -> None:
    layers = list(create_model("cnn4").modules())
    convs = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    assert [conv.out_channels for conv in convs] == [8, 8, 16, 16]
    assert [conv.kernel_size[0] for conv in convs] == [3, 5, 5, 5]
    assert [layer.kernel_size for layer in layers if isinstance(layer, nn.MaxPool2d)] == [2, 2, 2, 4]
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == [16, 1]


@pytest.mark.parametrize(("architecture", "dropout"), [("cnn6", []), ("cnn6-dropout", [nn.Dropout])])
def test_cnn6_is_drawn_as_described(architecture: str, dropout: list[type]) -> None:
    block = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, *dropout, nn.MaxPool2d]
    leaves = [type(layer) for layer in create_model(architecture).modules() if not list(layer.children())]
    assert leaves[: 6 * len(block)] == 6 * block
    assert leaves.count(nn.Linear) == 3


def test_cnn6_and_its_dropout_share_one_state_dict() -> None:
    create_model("cnn6").load_state_dict(create_model("cnn6-dropout").state_dict())


def test_logit_of_cnn_simple_is_the_mean_of_its_class_activation_map() -> None:
    model = create_model("cnn-simple", seed=0).eval()
    batch = pictures(2, "cnn-simple")
    with torch.no_grad():
        heat = torch.einsum("nchw,c->nhw", model.features(batch), model.logit.weight[0]) + model.logit.bias
        torch.testing.assert_close(model(batch), heat.mean(dim=(1, 2)))


@pytest.mark.parametrize("name", ["cnn4", "cnn6", "meso4", "mesoinception4"])
def test_last_map_is_averaged_only_where_the_side_is_not_native(name: str) -> None:
    pools: list[tuple[Tensor, Tensor]] = []
    model = create_model(name, seed=0).eval()
    (pool,) = [module for module in model.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    pool.register_forward_hook(lambda _, given, result: pools.append((given[0], result)))
    with torch.no_grad():
        model(pictures(1, name))
        assert model(torch.rand(2, 3, 300, 200)).shape == (2,)
        assert model(torch.rand(2, 3, 64, 64)).isfinite().all()
    given, result = pools[0]
    assert torch.equal(given, result)


@pytest.mark.parametrize("name", [*SMALL, "xception", "timm:test_efficientnet"])
def test_dropout_is_there_where_the_name_or_the_caller_says_so(name: str) -> None:
    expected = name in ("cnn4", "cnn6-dropout", "meso4", "mesoinception4")
    assert trains_at_random(create_model(name, seed=0), name) == expected
    assert trains_at_random(create_model(name, seed=0, dropout=0.4), name)
    assert not trains_at_random(create_model(name, seed=0, dropout=0.0), name)


@pytest.mark.parametrize("name", SMALL)
def test_dropout_has_the_share_asked_for(name: str) -> None:
    shares = {module.p for module in create_model(name, dropout=0.3).modules() if isinstance(module, nn.Dropout)}
    assert shares == {0.3}


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_out_of_range(dropout: float) -> None:
    with pytest.raises(ValueError, match="dropout is"):
        create_model("meso4", dropout=dropout)


def test_names_and_sides() -> None:
    sides = {name: native_size_px(name) for name in list_models()}
    assert sides == {
        "cnn-simple": 224,
        "cnn4": 224,
        "cnn6": 224,
        "cnn6-dropout": 224,
        "efficientnet-b0": 224,
        "efficientnet-b4": 380,
        "meso4": 256,
        "mesoinception4": 256,
        "vgg16": 224,
        "xception": 299,
        "xception-dense": 224,
    }
    assert list_models() == sorted(sides)
    assert native_size_px("timm:inception_v4") == 299


@pytest.mark.parametrize("ask", [create_model, native_size_px])
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mezo4", "did you mean 'meso4'"),
        ("Xception", "did you mean 'xception'"),
        ("resnet50", "'timm:NAME'"),
        ("timm:legacy_xceptoin", "did you mean 'timm:legacy_xception'"),
        ("timm:legacy_xception.no_such_weights", "did you mean 'timm:legacy_xception'"),
        ("timm:hf-hub:owner/name", "did you mean"),
        ("timm:", "did you mean"),
        ("", "known: cnn-simple"),
    ],
)
def test_unknown_names_get_the_nearest(ask: object, name: str, hint: str) -> None:
    assert callable(ask)
    with pytest.raises(UnknownModel) as caught:
        ask(name)
    assert hint in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("name", "of_timm"), [("xception", "legacy_xception"), (MOBILE, "mobilenetv2_100")])
def test_networks_written_here_are_timms_name_for_name(name: str, of_timm: str) -> None:
    own = timm.create_model(of_timm, num_classes=1)
    model = create_model(name, seed=0)
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        f"net.{key}": value.shape for key, value in own.state_dict().items()
    }
    own.load_state_dict(model.net.state_dict())
    for training in (True, False):  # learning changes what the norms remember
        for seed in (0, 1):
            torch.manual_seed(seed)
            batch = torch.randn(4, 3, 96, 96)
            with torch.no_grad():
                found, expected = model.train(training)(batch), own.train(training)(batch)[:, 0]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    state, expected_state = model.net.state_dict(), own.state_dict()
    for key, value in expected_state.items():
        torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "of_timm"), [("xception", "legacy_xception"), (MOBILE, "mobilenetv2_100")])
def test_networks_written_here_begin_as_timms(name: str, of_timm: str) -> None:
    own, model = timm.create_model(of_timm, num_classes=4), create_model(name.replace("xception", X), seed=0, outputs=4)
    found = model.net.state_dict()
    for key, value in own.state_dict().items():
        if value.numel() < 800 or not value.std():
            assert "weight" in key or "bias" in key or torch.equal(found[key], value)
            continue
        assert float(found[key].std()) == pytest.approx(float(value.std()), rel=0.1)
        assert abs(float(found[key].mean())) < 5 * float(value.std()) / value.numel() ** 0.5
        assert float(found[key].abs().max()) == pytest.approx(float(value.abs().max()), rel=0.4)
    assert torch.equal(model.net.bn1.weight, own.bn1.weight) and torch.equal(model.net.bn1.bias, own.bn1.bias)
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 4)
    assert head_of(model) == (f"net.{model.net.last}", own_last := model.net.get_submodule(model.net.last))
    assert own_last.out_features == 4 and isinstance(own.get_classifier(), type(own_last))


def test_networks_written_here_state_what_timm_states() -> None:
    for name in ("legacy_xception", "mobilenetv2_100"):
        stated = timm.get_pretrained_cfg(name)
        assert native_size_px(f"timm:{name}") == stated.input_size[-1]
        assert native_mean_std(f"timm:{name}") == (stated.mean, stated.std)
        if stated.hf_hub_id:
            assert imagenet_home(f"timm:{name}") == stated.hf_hub_id
        else:
            with pytest.raises(UnknownWeights, match="no ImageNet weights"):
                imagenet_home(f"timm:{name}")


def test_other_networks_of_timm_are_its_own() -> None:
    own = timm.create_model("test_efficientnet", num_classes=1)
    model = create_model("timm:test_efficientnet", seed=0)
    assert list(model.state_dict()) == [f"net.{key}" for key in own.state_dict()]
    own.load_state_dict(model.net.state_dict())
    batch = pictures(2, "timm:test_efficientnet")
    with torch.no_grad():
        assert torch.equal(model.eval()(batch), own.eval()(batch)[:, 0])


def test_timm_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match="pip install timm"):
        create_model("efficientnet-b0")
    create_model("xception")  # needs none
    with pytest.raises(MissingExtra, match="pip install timm"):
        native_size_px("timm:resnet50")


@pytest.mark.parametrize(
    "failure", ["raise RuntimeError('operator torchvision::nms does not exist')", "import no_such_module_at_all"]
)
def test_timm_that_fails_to_import(failure: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "timm.py").write_text(failure)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm")
    with pytest.raises(MissingExtra, match="pip install --upgrade torch torchvision timm") as caught:
        create_model("efficientnet-b0")
    assert isinstance(caught.value.__cause__, RuntimeError | ImportError)


def test_small_networks_do_not_need_timm() -> None:
    program = f"""
import sys
from deepfake_detect.models.registry import create_model, list_models, native_size_px
for name in {SMALL}:
    create_model(name)
for name in list_models():
    native_size_px(name)
assert "timm" not in sys.modules and "torchvision" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("name", list_models())
def test_the_stated_input_is_timm_s(name: str) -> None:
    if name.startswith(("efficientnet", "vgg")):
        assert native_mean_std(name) == native_mean_std(f"timm:{name.replace('-', '_')}")
    assert all(deviation > 0 for deviation in native_mean_std(name)[1])


def test_imagenet_weights_have_a_home_or_say_so() -> None:
    assert imagenet_home("vgg16") == imagenet_home("timm:vgg16") == "timm/vgg16.tv_in1k"
    with pytest.raises(UnknownWeights, match="train it from scratch"):
        imagenet_home("meso4")
    with pytest.raises(UnknownWeights, match=r"start from a \.safetensors file"):
        imagenet_home("xception")


@pytest.mark.parametrize("name", ["meso4", "cnn-simple", "cnn6", "timm:mobilenetv3_small_050"])
def test_a_head_can_be_made_wider(name: str) -> None:
    plain, wide = create_model(name, seed=0), create_model(f"{name}/24", seed=0).eval()
    assert last_linear(wide)[1].in_features == 24
    before = last_linear(plain)[1].in_features
    grown = sum(p.numel() for p in wide.parameters()) - sum(p.numel() for p in plain.parameters())
    assert grown == (before + 1) * 24 + 25 - (before + 1)
    assert wide(torch.zeros(2, 3, 64, 64)).shape == (2,)
    assert native_size_px(f"{name}/24") == native_size_px(name)


def test_a_width_of_nothing_is_no_width() -> None:
    with pytest.raises(UnknownModel, match="meso4/0"):
        create_model("meso4/0")
    with pytest.raises(UnknownModel, match="does not end in a dense layer"):
        last_linear(nn.Sequential(nn.Linear(4, 2)))


def test_a_verdict_of_packaged_weights_loads_neither_timm_nor_torchvision() -> None:
    """Each costs a second, and more, before the first verdict."""
    program = """
import sys
from deepfake_detect import Detector, classify_content, list_pretrained
detectors = [name for name in list_pretrained() if not name.startswith("content")]
for name in detectors:
    assert Detector.from_pretrained(name).predict("examples/portrait.jpg").score is not None
assert classify_content("examples/portrait.jpg").label == "face"
heavy = ("timm", "torchvision", "torch._dynamo", "torch._inductor", "sympy", "triton")
print(len(detectors), [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1) == ["3", "[]\n"]
