"""Xception (Chollet 2017), with the weights' names and results of timm's legacy_xception.

François Chollet, *Xception: Deep Learning with Depthwise Separable Convolutions*, 2017
(https://arxiv.org/abs/1610.02357). Layers and names are those of timm's ``legacy_xception``, so that weights of the one
load into the other; it is written here because importing timm takes seconds.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

_CHANNELS = 728  # of the middle flow
_DENSE = 96  # of the map of what is forged


class Xception(nn.Module):
    """Two convolutions, twelve blocks of separable convolutions, two more, and global average pooling.

    Args:
        outputs: Logits for each picture.
        dropout: Share of the averaged features that training drops, 0 to 1.
    """

    last = "fc"
    """Name of the layer that gives the logits."""

    def __init__(self, *, outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(32, 64, 3, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.act2 = nn.ReLU(inplace=True)
        self.block1 = _Block((64, 128, 128), shrinks=True, begins_with_act=False)
        self.block2 = _Block((128, 256, 256), shrinks=True)
        self.block3 = _Block((256, _CHANNELS, _CHANNELS), shrinks=True)
        for number in range(4, 12):
            self.add_module(f"block{number}", _Block((_CHANNELS,) * 4))
        self.block12 = _Block((_CHANNELS, _CHANNELS, 1024), shrinks=True)
        self.conv3 = _Separable(1024, 1536)
        self.bn3 = nn.BatchNorm2d(1536)
        self.act3 = nn.ReLU(inplace=True)
        self.conv4 = _Separable(1536, 2048)
        self.bn4 = nn.BatchNorm2d(2048)
        self.act4 = nn.ReLU(inplace=True)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2048, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to logits [N, outputs]."""
        logits: Tensor = self.fc(self.dropout(self.embed(batch)))
        return logits

    def embed(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to the features that the last layer weighs [N, 2048]."""
        return self._pooled(self._blocks(self._stem(batch), 1, 12))

    def _stem(self, batch: Tensor) -> Tensor:
        maps: Tensor = self.act2(self.bn2(self.conv2(self.act1(self.bn1(self.conv1(batch))))))  # [N, 64, H/2, W/2]
        return maps

    def _blocks(self, maps: Tensor, first: int, last: int) -> Tensor:
        for number in range(first, last + 1):
            maps = self.get_submodule(f"block{number}")(maps)
        return maps

    def _pooled(self, maps: Tensor) -> Tensor:
        maps = self.act4(self.bn4(self.conv4(self.act3(self.bn3(self.conv3(maps))))))  # [N, 2048, H/32, W/32]
        pooled: Tensor = self.global_pool(maps).flatten(1)
        return pooled


class DenseXception(Xception):
    """Xception with a second output: a map of what is forged, which also contributes to the logit.

    For each patch of 16 x 16 pixels, features of the middle flow are added to finer ones of the second block. From the
    sum comes a logit for the patch. The mean of these features over all patches, weighted by how forged each patch
    looks, is appended to Xception's own pooled features.

    Args:
        outputs: As for `Xception`.
        dropout: As for `Xception`.
    """

    def __init__(self, *, outputs: int = 1, dropout: float = 0.0) -> None:
        super().__init__(outputs=outputs, dropout=dropout)
        self.fine = nn.Conv2d(256, _DENSE, 3, stride=2, padding=1, bias=False)
        self.finebn = nn.BatchNorm2d(_DENSE)
        self.deep = nn.Conv2d(_CHANNELS, _DENSE, 1, bias=False)
        self.deepbn = nn.BatchNorm2d(_DENSE)
        self.act5 = nn.ReLU()
        self.conv6 = nn.Conv2d(_DENSE, _DENSE, 3, padding=1, bias=False)
        self.bn6 = nn.BatchNorm2d(_DENSE)
        self.act6 = nn.ReLU()
        self.dense = nn.Conv2d(_DENSE, 1, 1)
        self.dense_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(2048 + _DENSE, outputs)
        for conv in (self.fine, self.deep, self.conv6):
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.dense.weight, std=0.01)

    def embed(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to the features that the last layer weighs [N, 2144]."""
        return self._both(batch)[0]

    def localise(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Map a batch [N, 3, H, W] to logits [N, outputs], and to the logits of each patch [N, H/16, W/16]."""
        features, places = self._both(batch)
        return self.fc(self.dropout(features)), places.squeeze(1)

    def _both(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        finer = self._blocks(self._stem(batch), 1, 2)  # [N, 256, H/8, W/8]
        deeper = self._blocks(finer, 3, 11)  # [N, 728, H/16, W/16]
        maps = self.act5(self.finebn(self.fine(finer)) + self.deepbn(self.deep(deeper)))
        maps = self.act6(self.bn6(self.conv6(maps)))
        places = self.dense(maps)
        weighed = self.dense_pool(maps * torch.sigmoid(places)).flatten(1)
        return torch.cat([self._pooled(self._blocks(deeper, 12, 12)), weighed], 1), places


class _Separable(nn.Module):
    """A depthwise separable convolution: one within each channel, then one across the channels."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
        self.pointwise = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, batch: Tensor) -> Tensor:
        maps: Tensor = self.pointwise(self.conv1(batch))
        return maps


class _Block(nn.Module):
    """Separable convolutions with a shortcut, which has a convolution where the shape changes."""

    def __init__(self, channels: tuple[int, ...], *, shrinks: bool = False, begins_with_act: bool = True) -> None:
        super().__init__()
        rep: list[nn.Module] = []
        for place, (before, after) in enumerate(itertools.pairwise(channels)):
            if place or begins_with_act:
                rep.append(nn.ReLU(inplace=place > 0))  # the shortcut still needs the input of the first
            rep += [_Separable(before, after), nn.BatchNorm2d(after)]
        if shrinks:
            self.skip = nn.Conv2d(channels[0], channels[-1], 1, stride=2, bias=False)
            self.skipbn = nn.BatchNorm2d(channels[-1])
            rep.append(nn.MaxPool2d(3, stride=2, padding=1))
        self.shrinks = shrinks
        self.rep = nn.Sequential(*rep)

    def forward(self, batch: Tensor) -> Tensor:
        shortcut = self.skipbn(self.skip(batch)) if self.shrinks else batch
        maps: Tensor = self.rep(batch) + shortcut
        return maps
