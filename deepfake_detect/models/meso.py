"""The networks of MesoNet: Meso4 and MesoInception4 (Afchar and others 2018).

Darius Afchar, Vincent Nozick, Junichi Yamagishi, Isao Echizen, *MesoNet: a Compact Facial Video Forgery Detection
Network*, 2018 (https://arxiv.org/abs/1809.00888). Two networks with fewer than 30,000 parameters each, for faces of 256
px. The layers are those that were published, so that published weights can be loaded: ReLU comes before batch norm,
whose epsilon is that of Keras, and there is a leaky ReLU between the dense layers. Two things differ. The output is a
logit that is positive for fake (theirs is a probability of real), and inputs of other sizes than 256 px are accepted,
from 32 px on: the last map is average-pooled to 8 x 8, which changes nothing at 256.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GRID = 8
EPSILON = 1e-3  # of Keras' batch norm


class Meso4(nn.Module):
    """Four convolutions and two dense layers.

    Args:
        dropout: Share of the features that training drops before each dense layer, 0 to 1.
    """

    def __init__(self, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _Stage(_same(3, 8, kernel=3), channels=8, pool=2),
            _Stage(_same(8, 8, kernel=5), channels=8, pool=2),
            _Stage(_same(8, 16, kernel=5), channels=16, pool=2),
            _Stage(_same(16, 16, kernel=5), channels=16, pool=4),
        )
        self.head = _Head(dropout)

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] of RGB in [0, 1] to logits [N]."""
        logit: Tensor = self.head(self.features(batch))
        return logit


class MesoInception4(nn.Module):
    """Meso4 whose first two convolutions are inception modules with dilated branches.

    Args:
        dropout: Share of the features that training drops before each dense layer, 0 to 1.
    """

    def __init__(self, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _Stage(_Inception(3, (1, 4, 4, 2)), channels=11, pool=2),
            _Stage(_Inception(11, (2, 4, 4, 2)), channels=12, pool=2),
            _Stage(_same(12, 16, kernel=5), channels=16, pool=2),
            _Stage(_same(16, 16, kernel=5), channels=16, pool=4),
        )
        self.head = _Head(dropout)

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] of RGB in [0, 1] to logits [N]."""
        logit: Tensor = self.head(self.features(batch))
        return logit


class _Stage(nn.Module):
    def __init__(self, conv: nn.Module, *, channels: int, pool: int) -> None:
        super().__init__()
        self.conv = conv
        self.act = nn.ReLU()
        self.norm = nn.BatchNorm2d(channels, eps=EPSILON)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, batch: Tensor) -> Tensor:
        pooled: Tensor = self.pool(self.norm(self.act(self.conv(batch))))
        return pooled


class _Inception(nn.Module):
    """Four parallel branches, concatenated; the ReLU after them is that of the stage."""

    def __init__(self, before: int, after: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.point = _same(before, after[0], kernel=1)
        self.near = _reduced(before, after[1], dilation=1)
        self.wide = _reduced(before, after[2], dilation=2)
        self.wider = _reduced(before, after[3], dilation=3)

    def forward(self, batch: Tensor) -> Tensor:
        return torch.cat([self.point(batch), self.near(batch), self.wide(batch), self.wider(batch)], dim=1)


class _Head(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(GRID)
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(16 * GRID**2, 16)
        self.act = nn.LeakyReLU(0.1)
        self.logit = nn.Linear(16, 1)

    def forward(self, features: Tensor) -> Tensor:
        flat = self.dropout(self.pool(features).flatten(1))  # [N, 1024]
        logit: Tensor = self.logit(self.dropout(self.act(self.hidden(flat))))
        return logit.squeeze(1)  # [N]


def _same(before: int, after: int, *, kernel: int, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, padding=dilation * (kernel // 2), dilation=dilation)


def _reduced(before: int, after: int, *, dilation: int) -> nn.Sequential:
    return nn.Sequential(_same(before, after, kernel=1), nn.ReLU(), _same(after, after, kernel=3, dilation=dilation))
