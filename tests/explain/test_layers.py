"""Tests of the choice of the layer, and of a model left as it was."""

import threading

import pytest
import torch
from torch import Tensor, nn

from deepfake_detect import LayerNotFound, create_model
from deepfake_detect.explain.layers import as_map, find_layer, tap

LAST = {
    "cnn-simple": 64,
    "efficientnet-b0": 64,
    "meso4": 64,
    "mesoinception4": 64,
    "vgg16": 96,
    "xception": 96,
}


class InPlace(nn.Module):
    """What follows the layer changes its output in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4, 1)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.as_tensor(self.head(self.act(self.conv(batch)).mean((2, 3)))[:, 0])


def some(size_px: int) -> Tensor:
    return torch.rand(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "size_px"), LAST.items())
def test_it_is_the_last_that_is_wider_than_a_pixel(name: str, size_px: int) -> None:
    model = create_model(name, seed=0).eval()
    _, layer = find_layer(model, size_px=size_px)
    seen: list[tuple[nn.Module, Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda own, _, output: seen.append((own, output)))
        for module in model.modules()
        if not [*module.children()]
    ]
    with torch.no_grad():
        model(some(size_px))
    for hook in hooks:
        hook.remove()
    place = max(number for number, (module, _) in enumerate(seen) if module is layer)
    assert seen[place][1].shape[-1] > 1
    assert all(as_map(output) is None for _, output in seen[place + 1 :])


def test_of_tokens_it_is_the_last_norm_that_the_logit_comes_from() -> None:
    model = create_model("timm:vit_tiny_patch16_224", seed=0).eval()
    name, layer = find_layer(model, size_px=224)
    assert name == "net.blocks.11.norm1"
    seen = tap(model, some(224), layer)
    assert seen.activation.shape == (2, 192, 14, 14)
    assert seen.gradient is not None and bool(seen.gradient.any())


def test_a_layer_by_name_and_one_that_is_not_there() -> None:
    model = create_model("cnn-simple", seed=0)
    assert find_layer(model, "features.0.0", size_px=64) == ("features.0.0", model.get_submodule("features.0.0"))
    with pytest.raises(LayerNotFound, match=r"no layer called 'features\.0\.9'; did you mean 'features\.0\."):
        find_layer(model, "features.0.9", size_px=64)
    with pytest.raises(LayerNotFound, match=r"gives \[1, .*no map of the picture"):
        find_layer(model, "logit", size_px=64)


def test_gradient_and_logit_are_those_of_the_whole_graph() -> None:
    model, batch = create_model("meso4", seed=0).eval(), some(64)
    name, layer = find_layer(model, size_px=64)
    kept: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_hook(lambda *args: kept.append(args[2]))
    logit = model(batch)
    hook.remove()
    (wanted,) = torch.autograd.grad(logit.sum(), kept[0])
    seen = tap(model, batch, layer)
    assert seen.logit == pytest.approx(logit.detach(), abs=1e-6)
    assert seen.gradient == pytest.approx(wanted, abs=1e-6)
    assert seen.activation == pytest.approx(kept[0].detach(), abs=1e-6)


def test_what_follows_may_change_the_output_in_place() -> None:
    torch.manual_seed(0)
    model, batch = InPlace().eval(), some(16)
    seen = tap(model, batch, model.conv)
    assert bool((seen.activation < 0).any())  # not yet through the ReLU
    assert seen.activation == pytest.approx(model.conv(batch).detach(), abs=1e-6)
    assert seen.gradient is not None
    assert float(seen.gradient[seen.activation < 0].abs().max()) == 0.0


def test_the_model_is_left_as_it_was_found() -> None:
    model, batch = create_model("meso4", seed=0), some(64)
    model.train()
    model.features[0].eval()
    next(model.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [(module.training, len(module._forward_hooks)) for module in model.modules()]
    wanted = [parameter.requires_grad for parameter in model.parameters()]
    _, layer = find_layer(model, size_px=64)
    tap(model, batch, layer)
    assert [(module.training, len(module._forward_hooks)) for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == wanted
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()


def test_it_works_inside_inference_mode_and_autocast() -> None:
    model, batch = create_model("meso4", seed=0).eval(), some(64)
    _, layer = find_layer(model, size_px=64)
    wanted = tap(model, batch, layer)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = tap(model, batch, layer)
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    assert wanted.gradient is not None and found.gradient is not None
    assert torch.equal(found.gradient, wanted.gradient)


def test_another_thread_is_not_disturbed() -> None:
    model, batch = create_model("meso4", seed=0).eval(), some(64)
    _, layer = find_layer(model, size_px=64)
    graphs: list[bool] = []
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        inside.wait()
        with torch.no_grad():
            graphs.append(model(batch).requires_grad)
        done.set()

    thread = threading.Thread(target=other)
    thread.start()

    def wait(*_: object) -> None:
        if threading.current_thread() is not thread:
            inside.set()
            done.wait(10)

    hook = model.features[0].register_forward_pre_hook(wait)
    seen = tap(model, batch, layer)
    hook.remove()
    thread.join()
    assert graphs == [False]
    assert seen.gradient is not None and bool(seen.gradient.any())


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((2, 5, 7, 7), (2, 5, 7, 7)),
        ((2, 7, 7, 5), (2, 5, 7, 7)),
        ((2, 49, 5), (2, 5, 7, 7)),
        ((2, 50, 5), (2, 5, 7, 7)),
        ((2, 5, 1, 1), None),
        ((2, 5, 7, 6), None),
        ((2, 60, 5), None),
        ((2, 5), None),
    ],
)
def test_what_counts_as_a_map(shape: tuple[int, ...], wanted: tuple[int, ...] | None) -> None:
    found = as_map(torch.zeros(shape))
    assert (None if found is None else tuple(found.shape)) == wanted


def test_the_tokens_of_patches_come_last() -> None:
    tokens = torch.arange(10.0)[None, :, None].expand(1, 10, 2)
    found = as_map(tokens)
    assert found is not None
    assert found[0, 0].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
