"""The network of the face finder, and its export to a file that OpenCV reads.

A small anchor-free detector of YuNet's kind (Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face
Detector"): separable convolutions, three strides, a top-down neck. OpenCV's decoder takes the
square root of ``cls * obj`` as the confidence; here both are one map.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

STRIDES = (8, 16, 32)
MAPS = {"cls": 1, "bbox": 4, "kps": 10}


class Separable(nn.Sequential):
    """Mix the channels, then look at 3x3 pixels of each: two convolutions, one batch norm."""

    def __init__(self, inputs: int, outputs: int, *, last: bool = False) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, 1),
            nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=last),
        ]
        if not last:
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        super().__init__(*layers)


class FaceFinder(nn.Module):
    """BGR pixels 0..255 [N, 3, H, W], H and W multiples of 32, to maps per stride.

    Returns:
        For each stride a tensor [N, 15, H/stride, W/stride]: score logit, then centre offset x, y
        and log width, height in strides, then five points x, y in strides.
    """

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        )
        self.stem2 = Separable(16, 16)
        self.stage4 = nn.Sequential(Separable(16, 32), Separable(32, width))
        self.stage8 = nn.Sequential(*(Separable(width, width) for _ in range(3)))
        self.stage16 = nn.Sequential(*(Separable(width, width) for _ in range(3)))
        self.stage32 = nn.Sequential(*(Separable(width, width) for _ in range(2)))
        self.lateral = nn.ModuleList(Separable(width, width) for _ in STRIDES)
        self.shared = nn.ModuleList(Separable(width, width) for _ in STRIDES)
        self.heads = nn.ModuleList(
            nn.ModuleDict({name: Separable(width, count, last=True) for name, count in MAPS.items()}) for _ in STRIDES
        )
        for head in self.heads:
            nn.init.constant_(head["cls"][1].bias, -4.0)

    def forward(self, batch: torch.Tensor) -> list[torch.Tensor]:
        pool = nn.functional.max_pool2d
        x = self.stem2(self.stem(batch / 64 - 2))
        x = self.stage4(pool(x, 2))
        c8 = self.stage8(pool(x, 2))
        c16 = self.stage16(pool(c8, 2))
        c32 = self.stage32(pool(c16, 2))
        p32 = self.lateral[2](c32)
        p16 = self.lateral[1](c16 + nn.functional.interpolate(p32, scale_factor=2.0))
        p8 = self.lateral[0](c8 + nn.functional.interpolate(p16, scale_factor=2.0))
        maps = []
        for level, shared, head in zip((p8, p16, p32), self.shared, self.heads, strict=True):
            level = shared(level)
            maps.append(torch.cat([head[name](level) for name in MAPS], 1))
        return maps


class _Graph:
    """An ONNX graph under construction: every call adds a node and names its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def conv(self, x: str, conv: nn.Conv2d, norm: nn.BatchNorm2d | None = None, *, pixels: bool = False) -> str:
        weight = conv.weight.detach().double()
        bias = torch.zeros(len(weight)).double() if conv.bias is None else conv.bias.detach().double()
        if norm is not None:
            gain = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
            bias = (bias - norm.running_mean.double()) * gain + norm.bias.double()
            weight = weight * gain[:, None, None, None]
        names = [self.constant(part.detach().float().numpy()) for part in (weight, bias)]
        side, stride = conv.kernel_size[0], conv.stride[0]
        pad = side // 2
        return self.node("Conv", x, *names, kernel_shape=[side] * 2, strides=[stride] * 2, pads=[pad] * 4,
                         group=conv.groups)  # fmt: skip

    def separable(self, x: str, block: Separable) -> str:
        x = self.conv(x, block[0])
        if len(block) == 2:
            return self.conv(x, block[1])
        return self.node("Relu", self.conv(x, block[1], block[2]))

    def up(self, x: str) -> str:
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.node("Resize", x, self.constant(np.zeros(0, np.float32)), scales, mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip

    def pool(self, x: str) -> str:
        return self.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def save_onnx(model: FaceFinder, path: Path) -> None:
    """Write the network with batch norms folded, in the form that ``cv2.FaceDetectorYN`` decodes."""
    model = model.eval()
    graph = _Graph()
    x = graph.node("Mul", "input", graph.constant(np.array(1 / 64, np.float32)))
    x = graph.node("Sub", x, graph.constant(np.array(2, np.float32)))
    x = graph.separable(graph.node("Relu", graph.conv(x, model.stem[0], model.stem[1])), model.stem2)
    levels = []
    for stage in (model.stage4, model.stage8, model.stage16, model.stage32):
        x = graph.pool(x)
        for block in stage:
            x = graph.separable(x, block)
        levels.append(x)
    tops = [""] * 3
    tops[2] = graph.separable(levels[3], model.lateral[2])
    for i in (1, 0):
        tops[i] = graph.separable(graph.node("Add", levels[i + 1], graph.up(tops[i + 1])), model.lateral[i])
    outputs = {}
    for stride, top, shared, head in zip(STRIDES, tops, model.shared, model.heads, strict=True):
        top = graph.separable(top, shared)
        for name, count in MAPS.items():
            rows = graph.node("Transpose", graph.separable(top, head[name]), perm=[0, 2, 3, 1])
            shape = graph.constant(np.array([1, -1, count], np.int64))
            label = f"{name}_{stride}"
            if name == "cls":
                rows = graph.node("Reshape", rows, shape)
                graph.node("Sigmoid", rows, output=label)
                graph.node("Sigmoid", rows, output=f"obj_{stride}")
                outputs[f"obj_{stride}"] = count
            else:
                graph.node("Reshape", rows, shape, output=label)
            outputs[label] = count
    _write(graph, outputs, path)


def _write(graph: _Graph, outputs: dict[str, int], path: Path) -> None:
    order = [f"{name}_{stride}" for name in ("cls", "obj", "bbox", "kps") for stride in STRIDES]
    made = helper.make_graph(
        graph.nodes,
        "face_finder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "places", outputs[name]]) for name in order],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 11)], producer_name="deepfake-detect")
    model.ir_version = 6
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
