"""Test that a packed network gives the logits of the network, for every architecture, batch and thread count."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from deepfake_detect import create_model, list_models
from deepfake_detect.engines import fusion, packed
from deepfake_detect.engines.packed import TOLERANCE, pack
from deepfake_detect.engines.torch_engine import Forward
from deepfake_detect.explain.layers import find_layer
from deepfake_detect.explain.methods import METHODS, OF_PIXELS
from deepfake_detect.models.registry import native_size_px
from deepfake_detect.system.threads import share_threads

CPU = torch.device("cpu")


def logits_of(forward: Forward, batch: Tensor) -> Tensor:
    """Ask as a predictor does."""
    return torch.from_numpy(forward(batch.permute(0, 2, 3, 1).numpy()))


UNTRACEABLE = {"vgg16"}  # timm's asks for the size of a map
NAMES = [
    *list_models(),
    "timm:mobilenetv2_100",
    "timm:resnet18",
    "timm:mobilenetv3_small_100",
    "timm:vit_tiny_patch16_224",
]


def settled(name: str, *, size_px: int) -> nn.Module:
    """Give a network whose norms hold the statistics of some noise, so that its logits are of the size of one."""
    model = create_model(name, seed=0).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for seed in range(2):
            model(pictures(4, size_px=size_px, seed=seed))
    return model.eval()


def pictures(count: int, *, size_px: int, seed: int = 9) -> Tensor:
    return torch.randn(count, 3, size_px, size_px, generator=torch.Generator().manual_seed(seed))


def loose(**parts: nn.Module) -> Callable[[Callable[[nn.ModuleDict, Tensor], Tensor]], nn.Module]:
    """Make a small network out of parts and the function that joins them."""

    def with_forward(join: Callable[[nn.ModuleDict, Tensor], Tensor]) -> nn.Module:
        class Joined(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.parts = nn.ModuleDict(parts)

            def forward(self, batch: Tensor) -> Tensor:
                return join(self.parts, batch).mean((1, 2, 3))

        torch.manual_seed(0)
        for module in parts.values():
            for tensor in module.state_dict().values():
                if tensor.is_floating_point():
                    tensor.copy_(torch.rand(tensor.shape) + 0.1)
        return Joined().eval()

    return with_forward


@pytest.mark.parametrize("name", NAMES)
def test_the_packed_network_gives_the_logits_of_the_network(name: str) -> None:
    size_px = 224 if "vit" in name else min(160, native_size_px(name))
    model = settled(name, size_px=size_px)
    packed_network, _ = pack(model, pictures(1, size_px=size_px))
    assert (packed_network is None) == (name in UNTRACEABLE)
    if packed_network is not None:
        batch = pictures(3, size_px=size_px)
        with torch.inference_mode():
            torch.testing.assert_close(packed_network(batch), model(batch), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", ["xception", "timm:mobilenetv2_100", "efficientnet-b0"])
def test_a_packed_network_is_not_the_network_under_another_name(name: str) -> None:
    """Nothing but convolutions and what cannot be computed with them is left: no batch norm, and few activations."""
    model = create_model(name, seed=0).eval()
    packed_network, _ = pack(model, pictures(1, size_px=64))
    assert packed_network is not None
    calls = [step.call for step in packed_network._steps]
    assert sum(isinstance(call, packed._Convolution) for call in calls) == sum(
        isinstance(module, nn.Conv2d) for module in model.modules()
    )
    assert not any(isinstance(call, nn.BatchNorm2d) for call in calls)
    sums = sum(step.call in fusion._ADDS for step in packed_network._steps)
    assert sums == 0


def test_bfloat16_is_near_and_is_bfloat16() -> None:
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor has no bfloat16")
    model = settled("xception", size_px=96)
    packed_network, _ = pack(model, pictures(1, size_px=96), dtype=torch.bfloat16)
    assert packed_network is not None
    batch = pictures(4, size_px=96)
    with torch.inference_mode():
        found, expected = packed_network(batch), model(batch)
    assert found.dtype == torch.float32
    assert 0 < float((found - expected).abs().max()) < TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("kind", [nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.LeakyReLU(0.3), nn.Sigmoid(), nn.Hardswish()])
def test_activations_are_computed_with_the_convolution(kind: nn.Module) -> None:
    model = loose(conv=nn.Conv2d(3, 8, 3), norm=nn.BatchNorm2d(8), act=kind)(
        lambda parts, batch: parts["act"](parts["norm"](parts["conv"](batch)) - 5.0 + 5.0)
    )
    fused = loose(conv=nn.Conv2d(3, 8, 3), norm=nn.BatchNorm2d(8), act=kind)(
        lambda parts, batch: parts["act"](parts["norm"](parts["conv"](batch)))
    )
    batch = pictures(2, size_px=16)
    packed_network, plain = pack(fused, batch)[0], pack(model, batch)[0]
    assert packed_network is not None and plain is not None
    assert len(packed_network._steps) == 3 and len(plain._steps) == 6  # pictures, convolution, mean
    torch.testing.assert_close(packed_network(batch), fused(batch))


def test_a_result_that_is_used_twice_is_kept() -> None:
    model = loose(conv=nn.Conv2d(3, 3, 3, padding=1), act=nn.ReLU())(
        lambda parts, batch: parts["act"](parts["conv"](batch)) - parts["conv"](batch)
    )
    shared = loose(conv=nn.Conv2d(3, 3, 3, padding=1), act=nn.ReLU())(
        lambda parts, batch: (lambda maps: parts["act"](maps) - maps * 2)(parts["conv"](batch - 0.5))
    )
    batch = pictures(2, size_px=8)
    for one in (model, shared):
        packed_network, logits = pack(one, batch)
        assert packed_network is not None and torch.equal(packed_network(batch), logits)
        torch.testing.assert_close(packed_network(batch), one(batch))


def test_a_sum_takes_what_comes_before_and_after_it() -> None:
    """Both sides are convolutions, of which one may take the sum; then a maximum needs both."""
    model = loose(left=nn.Conv2d(3, 4, 1), right=nn.Conv2d(3, 4, 1), act=nn.ReLU())(
        lambda parts, batch: parts["act"](parts["left"](batch) + parts["right"](batch * 2))
    )
    narrow = loose(left=nn.Conv2d(3, 4, 1), right=nn.Conv2d(3, 1, 1))(  # a sum of other shapes is left alone
        lambda parts, batch: parts["left"](batch) + parts["right"](batch)
    )
    batch = pictures(2, size_px=8)
    for one, steps in ((model, 5), (narrow, 5)):
        packed_network, _ = pack(one, batch)
        assert packed_network is not None and len(packed_network._steps) == steps
        assert sum(isinstance(step.call, packed._Convolution) for step in packed_network._steps) == 2
        torch.testing.assert_close(packed_network(batch), one(batch))


def test_what_cannot_be_packed_is_said() -> None:
    batch = pictures(1, size_px=64)
    assert pack(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 1)), batch) == (None, None)
    assert pack(create_model("meso4", seed=0).eval(), batch, dtype=torch.float16) == (None, None)


def test_a_packed_network_that_does_not_agree_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = settled("cnn4", size_px=64), pictures(2, size_px=64)
    assert pack(model, batch)[0] is not None
    monkeypatch.setattr(fusion, "fuse_conv_bn_weights", lambda weight, bias, *_: (weight, torch.zeros(len(weight))))
    assert pack(model, batch) == (None, None)
    assert pack(settled("meso4", size_px=64), batch)[0] is not None  # its norms stand behind activations


def test_a_processor_without_the_operators_answers_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_is_supported", lambda dtype: False)
    model, batch = create_model("meso4", seed=0).eval(), torch.rand(2, 3, 64, 64)
    found = logits_of(Forward(model, device=CPU), batch)
    assert torch.equal(found, model(batch).detach())


def test_a_change_of_the_weights_is_noticed() -> None:
    model, batch = create_model("cnn4", seed=0).eval(), torch.rand(2, 3, 64, 64)
    forward = Forward(model, device=CPU)
    before = logits_of(forward, batch)
    assert torch.equal(logits_of(forward, batch), before)
    with torch.no_grad():
        model.features[0][0].weight.mul_(3)
    torch.testing.assert_close(logits_of(forward, batch), model(batch).detach())
    assert not torch.allclose(logits_of(forward, batch), before)
    changed = logits_of(forward, batch)
    model.head[5] = nn.Linear(16, 1)
    torch.testing.assert_close(logits_of(forward, batch), model(batch).detach())
    assert not torch.allclose(logits_of(forward, batch), changed)
    model.head[5].weight.data = torch.zeros(1, 16)
    torch.testing.assert_close(logits_of(forward, batch), model(batch).detach())


def test_it_is_told_what_ran() -> None:
    batch = torch.rand(2, 3, 64, 64)
    forward = Forward(create_model("cnn4", seed=0).eval(), device=CPU)
    assert forward.how == {"backend": "torch", "dtype": "float32"}
    logits_of(forward, batch)
    assert forward.how == {"backend": "torch-packed", "dtype": "float32"}
    half = Forward(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 1)), device=CPU, dtype=torch.bfloat16)
    logits_of(half, batch)
    assert half.how == {"backend": "torch", "dtype": "bfloat16"}


def test_threads_share_one_packed_network() -> None:
    model, batch = create_model("cnn4", seed=0).eval(), torch.rand(2, 3, 64, 64)
    forward = Forward(model, device=CPU)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: logits_of(forward, batch), range(40)))
    assert len(forward._fast) == len({torch.get_num_threads()})
    for one in found:
        torch.testing.assert_close(one, model(batch).detach())


def test_threads_of_torch_are_shared_and_given_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with ThreadPoolExecutor(3) as pool:
            share_threads(pool, workers=3, lanes=2)
            met = threading.Barrier(3)

            def seen(_: int) -> int:
                met.wait()
                return torch.get_num_threads()

            assert list(pool.map(seen, range(3))) == [2, 2, 2]
            assert torch.get_num_threads() == 4
        with ThreadPoolExecutor(1) as other:
            assert other.submit(torch.get_num_threads).result() == 4
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["meso4", "mesoinception4", "cnn6", "xception"])
def test_a_batch_of_one_equals_a_row_of_a_batch(name: str) -> None:
    model, batch = create_model(name, seed=0).eval(), torch.rand(6, 3, 128, 128)
    forward = Forward(model, device=CPU)
    alone = torch.cat([logits_of(forward, batch[row : row + 1]) for row in range(6)])
    torch.testing.assert_close(logits_of(forward, batch), alone, rtol=0, atol=1e-5)


def test_mixed_precision_stays_near() -> None:
    model, batch = create_model("cnn4", seed=0).eval(), torch.rand(3, 3, 64, 64)
    exact, mixed = (
        logits_of(Forward(model, device=CPU, dtype=dtype), batch) for dtype in (torch.float32, torch.bfloat16)
    )
    assert not torch.equal(exact, mixed)
    torch.testing.assert_close(mixed, exact, rtol=0, atol=0.5)


@pytest.mark.parametrize(
    "name", ["meso4", "mesoinception4", "cnn4", "cnn6", "cnn-simple", "xception", "efficientnet-b0"]
)
def test_a_spliced_packed_network_is_explained_as_the_network_is(name: str) -> None:
    model, batch = settled(name, size_px=96), pictures(2, size_px=96)
    called, layer = find_layer(model, size_px=96)
    spliced = Forward(model, device=CPU).spliced(batch, called)
    assert spliced is not None
    for method in METHODS.keys() - OF_PIXELS:
        maps, logit = METHODS[method](model, batch, layer)
        found, said = METHODS[method](spliced, batch, spliced.layer)
        torch.testing.assert_close(said, logit, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found, maps, rtol=0, atol=max(1e-5, 1e-3 * float(maps.abs().max())))


def test_a_layer_that_does_not_stand_alone_is_not_spliced() -> None:
    model, batch = settled("xception", size_px=96), pictures(1, size_px=96)
    forward = Forward(model, device=CPU)
    assert forward.spliced(batch, "net.block5.rep.0") is None  # convolutions follow
    assert forward.spliced(batch, "net.conv4") is None  # computed with what follows
    assert forward.spliced(batch, "net.nothing") is None
    assert forward.spliced(batch, "net.act4") is not None
    assert Forward(model, device=CPU, dtype=torch.bfloat16).spliced(batch, "net.act4") is None
    parts = {"conv": nn.Conv2d(3, 3, 1), "act": nn.Tanh(), "last": nn.Conv2d(3, 3, 1)}
    beside = loose(**parts)(lambda parts, maps: (lambda own: parts["act"](own) + own)(parts["conv"](maps)))
    before = loose(**parts)(lambda parts, maps: parts["last"](parts["act"](parts["conv"](maps))))
    alone = loose(**parts)(lambda parts, maps: parts["act"](parts["conv"](maps)))
    for network, may in ((beside, False), (before, False), (alone, True)):
        packed_network, _ = pack(network, batch)
        assert packed_network is not None and (packed_network.splice("parts.act") is not None) == may
