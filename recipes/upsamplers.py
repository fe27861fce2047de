"""Networks that make a small picture large: each leaves its own traces, as the last layers of generators do.

CARN-M (Ahn and others 2018), Real-ESRGAN x4plus and its compact sister (Wang and others 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional

Upsampler = Callable[[Tensor], Tensor]
"""Maps [N, 3, H, W] in 0..1 to the same, larger."""

Weights = dict[str, Tensor]


def load_upsamplers(given: Path, more: Path | None) -> dict[str, tuple[Upsampler, int]]:
    """Load what is there: name to the network and how many times larger it makes a picture."""
    carn = torch.load(given / "carn_m.pth", weights_only=True, map_location="cpu")
    networks: dict[str, tuple[Upsampler, int]] = {
        f"carn-m x{times}": (lambda batch, times=times: _carn(carn, batch, times), times) for times in (2, 3, 4)
    }
    if more is not None:
        compact, plus = (
            {name: value.float() for name, value in safetensors.torch.load_file(more / f"{file}.safetensors").items()}
            for file in ("realesr_animevideov3_x4", "realesrgan_x4plus")
        )
        networks["real-esrgan compact"] = (lambda batch: _compact(compact, batch), 4)
        networks["real-esrgan x4plus"] = (lambda batch: _plus(plus, batch), 4)
    return networks


def enlarge(network: Upsampler, pixels: np.ndarray) -> np.ndarray:
    """Pass a [H, W, 3] uint8 picture through."""
    batch = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        large = network(batch.contiguous(memory_format=torch.channels_last))[0]
    return np.asarray((large.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def _conv(weights: Weights, name: str, maps: Tensor, *, groups: int = 1) -> Tensor:
    weight = weights[f"{name}.weight"]
    return functional.conv2d(maps, weight, weights[f"{name}.bias"], padding=weight.shape[-1] // 2, groups=groups)


def _carn(weights: Weights, batch: Tensor, times: int) -> Tensor:
    def residual(name: str, maps: Tensor) -> Tensor:
        inner = functional.relu(_conv(weights, f"{name}.body.0", maps, groups=4))
        inner = functional.relu(_conv(weights, f"{name}.body.2", inner, groups=4))
        return functional.relu(_conv(weights, f"{name}.body.4", inner) + maps)

    def cascade(prefix: str, maps: Tensor, block: Callable[[str, Tensor], Tensor]) -> Tensor:
        joined = out = maps
        for number in (1, 2, 3):
            shared = "1" if prefix else str(number)  # inside a block, one residual block serves three times
            joined = torch.cat([joined, block(f"{prefix}b{shared}", out)], 1)
            out = functional.relu(_conv(weights, f"{prefix}c{number}.body.0", joined))
        return out

    maps = _conv(weights, "entry", _conv(weights, "sub_mean.shifter", batch))
    maps = cascade("", maps, lambda name, inner: cascade(f"{name}.", inner, residual))
    for layer in ("0", "3") if times == 4 else ("0",):
        wide = functional.relu(_conv(weights, f"upsample.up{times}.body.{layer}", maps, groups=4))
        maps = functional.pixel_shuffle(wide, 3 if times == 3 else 2)
    return _conv(weights, "add_mean.shifter", _conv(weights, "exit", maps))


def _compact(weights: Weights, batch: Tensor) -> Tensor:
    maps, last = batch, max(int(name.split(".")[1]) for name in weights)
    for number in range(last + 1):
        name = f"body.{number}"
        if f"{name}.bias" in weights:
            maps = _conv(weights, name, maps)
        else:
            maps = functional.prelu(maps, weights[f"{name}.weight"])
    return functional.pixel_shuffle(maps, 4) + functional.interpolate(batch, scale_factor=4, mode="nearest")


def _plus(weights: Weights, batch: Tensor) -> Tensor:
    def dense(name: str, maps: Tensor) -> Tensor:
        known = [maps]
        for number in range(1, 5):
            inner = _conv(weights, f"{name}.conv{number}", torch.cat(known, 1))
            known.append(functional.leaky_relu(inner, 0.2))
        return maps + 0.2 * _conv(weights, f"{name}.conv5", torch.cat(known, 1))

    first = maps = _conv(weights, "conv_first", batch)
    for block in range(23):
        inner = maps
        for number in (1, 2, 3):
            inner = dense(f"body.{block}.rdb{number}", inner)
        maps = maps + 0.2 * inner
    maps = first + _conv(weights, "conv_body", maps)
    for name in ("conv_up1", "conv_up2"):
        larger = functional.interpolate(maps, scale_factor=2, mode="nearest")
        maps = functional.leaky_relu(_conv(weights, name, larger), 0.2)
    return _conv(weights, "conv_last", functional.leaky_relu(_conv(weights, "conv_hr", maps), 0.2))
