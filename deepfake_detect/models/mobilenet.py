"""MobileNetV2 (Sandler and others 2018), with the weights' names and results of timm.

Mark Sandler, Andrew Howard, Menglong Zhu, Andrey Zhmoginov, Liang-Chieh Chen, *MobileNetV2: Inverted Residuals and
Linear Bottlenecks*, 2018 (https://arxiv.org/abs/1801.04381). Layers and names are those of timm's ``mobilenetv2_100``,
so that weights of the one load into the other; it is written here because importing timm takes seconds.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

_STAGES = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Channels, blocks, and stride of the first block."""

_EXPANSION = 6  # channels inside a block, as a multiple of its input channels


class MobileNetV2(nn.Module):
    """A convolution, seventeen inverted residual blocks, another convolution, and global average pooling.

    Args:
        outputs: Logits for each picture.
        dropout: Share of the averaged features that training drops, 0 to 1.
    """

    last = "classifier"
    """Name of the layer that gives the logits."""

    def __init__(self, *, outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.act1 = nn.ReLU6(inplace=True)
        self.blocks = nn.Sequential()
        before = 32
        for after, count, stride in _STAGES:
            stage = nn.Sequential()
            for place in range(count):
                first = len(self.blocks) == 0
                stage.append(_First(before, after) if first else _Inverted(before, after, 1 if place else stride))
                before = after
            self.blocks.append(stage)
        self.conv_head = nn.Conv2d(before, 1280, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(1280)
        self.act2 = nn.ReLU6(inplace=True)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, outputs)
        self._init()

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to logits [N, outputs]."""
        logits: Tensor = self.classifier(self.dropout(self.embed(batch)))
        return logits

    def embed(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to the features that the last layer weighs [N, 1280]."""
        maps = self.blocks(self.act1(self.bn1(self.conv_stem(batch))))  # [N, 320, H/32, W/32]
        pooled: Tensor = self.global_pool(self.act2(self.bn2(self.conv_head(maps)))).flatten(1)
        return pooled

    def _init(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        bound = 1 / math.sqrt(self.classifier.out_features)
        nn.init.uniform_(self.classifier.weight, -bound, bound)
        nn.init.zeros_(self.classifier.bias)


class _First(nn.Module):
    """The first block, which does not expand the channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
        self.bn1 = nn.BatchNorm2d(before)
        self.act1 = nn.ReLU6(inplace=True)
        self.conv_pw = nn.Conv2d(before, after, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)

    def forward(self, batch: Tensor) -> Tensor:
        maps: Tensor = self.bn2(self.conv_pw(self.act1(self.bn1(self.conv_dw(batch)))))
        return maps


class _Inverted(nn.Module):
    """An inverted residual: expand, filter each channel, project; the input is added where the shape stays."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        wide = _EXPANSION * before
        self.conv_pw = nn.Conv2d(before, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.act1 = nn.ReLU6(inplace=True)
        self.conv_dw = nn.Conv2d(wide, wide, 3, stride=stride, padding=1, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.act2 = nn.ReLU6(inplace=True)
        self.conv_pwl = nn.Conv2d(wide, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.adds = stride == 1 and before == after

    def forward(self, batch: Tensor) -> Tensor:
        wide = self.act2(self.bn2(self.conv_dw(self.act1(self.bn1(self.conv_pw(batch))))))
        maps: Tensor = self.bn3(self.conv_pwl(wide))
        return maps + batch if self.adds else maps
