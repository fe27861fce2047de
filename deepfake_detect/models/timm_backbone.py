"""Make a detector of a network of timm.

This is the only module that imports timm, and only for a network that is not written here: importing timm takes
seconds, and fails where torchvision does not match torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor, nn

from deepfake_detect.errors import MissingExtra, UnknownModel, UnknownWeights
from deepfake_detect.models.mobilenet import MobileNetV2
from deepfake_detect.models.xception import Xception

Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _WrittenHere:
    """A network of timm that is written here, with timm's settings for it."""

    build: Callable[..., nn.Module]  # takes outputs= and dropout=
    size_px: int
    mean_std: tuple[Triple, Triple]
    repo: str = ""


_WRITTEN_HERE = {
    "legacy_xception": _WrittenHere(build=Xception, size_px=299, mean_std=((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))),
    "mobilenetv2_100": _WrittenHere(
        build=MobileNetV2,
        size_px=224,
        mean_std=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        repo="timm/mobilenetv2_100.ra_in1k",
    ),
}


class Backbone(nn.Module):
    """A network of timm; where it has one output, that is squeezed to a logit for each picture.

    The network is ``net``, and its state dict has timm's own keys behind ``net.``: weights made for timm load with
    ``model.net.load_state_dict(...)``.

    Args:
        net: A network that maps [N, 3, H, W] to [N, outputs].
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Tensor) -> Tensor:
        """Map a batch [N, 3, H, W] to logits [N], or [N, outputs] where there are several."""
        logit: Tensor = self.net(batch)
        return logit.squeeze(1)

    def localise(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Map a batch to logits as `forward` does, and to logits of each place [N, rows, columns].

        Raises:
            UnknownModel: The network makes no map.
        """
        localise: Callable[[Tensor], tuple[Tensor, Tensor]] | None = getattr(self.net, "localise", None)
        if localise is None:
            raise UnknownModel(f"{type(self.net).__name__} has no map of what is forged; 'xception-dense' has one")
        logit, places = localise(batch)
        return logit.squeeze(1), places


def create_backbone(name: str, *, dropout: float | None = None, outputs: int = 1) -> Backbone:
    """Build one of timm's networks with random weights.

    Args:
        name: As timm spells it, without ``timm:``.
        dropout: Before the last layer, 0 to 1; None leaves timm's choice for this network.
        outputs: Logits for each picture.

    Raises:
        UnknownModel: timm has no such network.
        MissingExtra: timm is not installed or cannot be imported.
    """
    if name in _WRITTEN_HERE:
        return Backbone(_WRITTEN_HERE[name].build(outputs=outputs, dropout=dropout or 0.0))
    timm = _known_to_timm(name)
    choices = {} if dropout is None else {"drop_rate": dropout}
    return Backbone(timm.create_model(name, pretrained=False, num_classes=outputs, **choices))


def backbone_size_px(name: str) -> int:
    """Return the side of the square input that timm states for a network, in pixels.

    Args:
        name: As timm spells it, without ``timm:``.

    Raises:
        UnknownModel: timm has no such network, or states no size for it.
        MissingExtra: timm is not installed or cannot be imported.
    """
    if name in _WRITTEN_HERE:
        return _WRITTEN_HERE[name].size_px
    stated = _known_to_timm(name).get_pretrained_cfg(name)
    if stated is None:
        raise UnknownModel(f"timm states no input size for {name!r}; choose a size and preprocess to it")
    return int(stated.input_size[-1])


def backbone_mean_std(name: str) -> tuple[Triple, Triple]:
    """Return the mean and standard deviation of each RGB channel, in [0, 1], that timm states for a network.

    Args:
        name: As timm spells it, without ``timm:``.

    Raises:
        UnknownModel: timm has no such network, or states none for it.
        MissingExtra: timm is not installed or cannot be imported.
    """
    if name in _WRITTEN_HERE:
        return _WRITTEN_HERE[name].mean_std
    stated = _known_to_timm(name).get_pretrained_cfg(name)
    if stated is None:
        raise UnknownModel(f"timm states no mean and deviation for {name!r}; pass a preprocessing of your own")
    (r, g, b), (u, v, w) = stated.mean, stated.std
    return (r, g, b), (u, v, w)


def imagenet_repo(name: str) -> str:
    """Return the repository on the Hub that holds timm's pretrained weights of a network.

    Args:
        name: As timm spells it, without ``timm:``.

    Raises:
        UnknownWeights: timm names no repository for it.
        UnknownModel: timm has no such network.
        MissingExtra: timm is not installed or cannot be imported.
    """
    stated = None if name in _WRITTEN_HERE else _known_to_timm(name).get_pretrained_cfg(name)
    repo = _WRITTEN_HERE[name].repo if name in _WRITTEN_HERE else getattr(stated, "hf_hub_id", None)
    if not repo:
        raise UnknownWeights(
            f"timm keeps no ImageNet weights of {name!r} on the Hub; start from a .safetensors file of them instead"
        )
    return str(repo)


def _known_to_timm(name: str) -> ModuleType:
    timm = _timm()
    if not timm.is_model(name) or ("." in name and name not in timm.list_models(include_tags=True)):
        closest = difflib.get_close_matches(name, timm.list_models(), n=1, cutoff=0.0)[0]
        raise UnknownModel(
            f"timm {timm.__version__} has no network called {name!r}; did you mean 'timm:{closest}'? "
            "timm.list_models() names them all"
        )
    return timm


def _timm() -> ModuleType:
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise _broken(error) from error
        raise MissingExtra("this network needs timm, which is not installed; run: pip install timm") from error
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise _broken(error) from error
    return timm  # type: ignore[no-any-return, unused-ignore]


def _broken(error: Exception) -> MissingExtra:
    return MissingExtra(
        f"timm is installed but cannot be imported ({type(error).__name__}: {error}), most often because torchvision "
        "was built for another torch; run: pip install --upgrade torch torchvision timm. "
        "The networks cnn-simple, cnn4, cnn6, meso4 and mesoinception4 do not need timm"
    )
