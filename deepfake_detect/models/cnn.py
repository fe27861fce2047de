"""Small convolutional networks that need nothing but torch.

Baselines for learning and testing; each takes about ten milliseconds for a face on one core. They accept any input of
64 px or more: the last feature map is average-pooled, in `cnn4` and `cnn6` to the grid that it has at 224 px, where the
pooling changes nothing.
"""

from __future__ import annotations

import itertools

from torch import Tensor, nn

RGB = 3


class CnnSimple(nn.Module):
    """Three convolutions, global average pooling, one dense layer.

    The logit is a weighted mean of the last feature map, so the class activation map is exact.

    Args:
        dropout: Share of the averaged features that training drops, 0 to 1.
        filters: Channels of the three convolutions.
    """

    def __init__(self, *, dropout: float = 0.0, filters: tuple[int, int, int] = (32, 64, 128)) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
                for before, after in itertools.pairwise((RGB, *filters))
            )
        )
        self.dropout = nn.Dropout(dropout)
        self.logit = nn.Linear(filters[-1], 1)

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to logits [N]."""
        features: Tensor = self.features(batch)  # [N, 128, H/8, W/8]
        logit: Tensor = self.logit(self.dropout(features.mean(dim=(2, 3))))
        return logit.squeeze(1)  # [N]


class Cnn4(nn.Module):
    """The four convolutions of Meso4, each in today's usual order: convolution, batch norm, ReLU, max pool.

    Args:
        dropout: Share of the features that training drops before each of the two dense layers, 0 to 1.
    """

    grid = 7

    def __init__(self, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _block(RGB, 8, kernel=3, pool=2),
            _block(8, 8, kernel=5, pool=2),
            _block(8, 16, kernel=5, pool=2),
            _block(16, 16, kernel=5, pool=4),
            nn.AdaptiveAvgPool2d(self.grid),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(16 * self.grid**2, 16),
            nn.LeakyReLU(0.1),
            nn.Dropout(dropout),
            nn.Linear(16, 1),
        )

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to logits [N]."""
        logit: Tensor = self.head(self.features(batch))
        return logit.squeeze(1)  # [N]


class Cnn6(nn.Module):
    """Six times convolution, batch norm, ReLU, dropout, max pool; then three dense layers.

    Args:
        dropout: Share of each block's activations that training drops, 0 to 1. The keys of the state dict are the
            same with and without.
    """

    grid = 3
    filters = (16, 32, 64, 128, 256, 256)

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(_block(*pair, kernel=3, pool=2, dropout=dropout) for pair in itertools.pairwise((RGB, *self.filters))),
            nn.AdaptiveAvgPool2d(self.grid),
        )
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.filters[-1] * self.grid**2, 256),
            nn.ReLU(),
            nn.Linear(256, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to logits [N]."""
        logit: Tensor = self.head(self.features(batch))
        return logit.squeeze(1)  # [N]


def _block(before: int, after: int, *, kernel: int, pool: int, dropout: float = 0.0) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding=kernel // 2, bias=False),  # the batch norm has the bias
        nn.BatchNorm2d(after),
        nn.ReLU(),
        *([nn.Dropout(dropout)] if dropout else []),
        nn.MaxPool2d(pool),
    )
