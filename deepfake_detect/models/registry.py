"""List the architectures, and build one by name.

Every architecture maps pictures [N, 3, H, W] to logits [N]; a positive logit means fake. Weights are random here:
`load_model` fills them in.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from deepfake_detect._options import check_number
from deepfake_detect.errors import InvalidOption, UnknownModel, UnknownWeights, nearest
from deepfake_detect.models.cnn import Cnn4, Cnn6, CnnSimple
from deepfake_detect.models.head import add_hidden, set_outputs
from deepfake_detect.models.meso import Meso4, MesoInception4
from deepfake_detect.models.timm_backbone import (
    Backbone,
    Triple,
    backbone_mean_std,
    backbone_size_px,
    create_backbone,
    imagenet_repo,
)
from deepfake_detect.models.xception import DenseXception
from deepfake_detect.system.torch_defaults import usual_defaults

__all__ = ["create_model", "create_skeleton", "imagenet_home", "list_models", "native_mean_std", "native_size_px"]

TIMM = "timm:"
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Architecture:
    build: Callable[..., nn.Module]  # takes dropout=
    size_px: int
    dropout: float | None  # None: timm's choice
    timm: str = ""  # timm's name, where it is one of its networks
    mean_std: tuple[Triple, Triple] = _HALF


_UNCHANGED = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _of_timm(name: str, *, size_px: int, mean_std: tuple[Triple, Triple] = _IMAGENET) -> _Architecture:
    build = functools.partial(create_backbone, name)
    return _Architecture(build=build, size_px=size_px, dropout=None, timm=name, mean_std=mean_std)


_ARCHITECTURES = {
    "cnn-simple": _Architecture(build=CnnSimple, size_px=224, dropout=0.0),
    "cnn4": _Architecture(build=Cnn4, size_px=224, dropout=0.5),
    "cnn6": _Architecture(build=Cnn6, size_px=224, dropout=0.0),
    "cnn6-dropout": _Architecture(build=Cnn6, size_px=224, dropout=0.2),
    "efficientnet-b0": _of_timm("efficientnet_b0", size_px=224),
    "efficientnet-b4": _of_timm("efficientnet_b4", size_px=380),
    "meso4": _Architecture(build=Meso4, size_px=256, dropout=0.5, mean_std=_UNCHANGED),
    "mesoinception4": _Architecture(build=MesoInception4, size_px=256, dropout=0.5, mean_std=_UNCHANGED),
    "vgg16": _of_timm("vgg16", size_px=224),
    "xception": _of_timm("legacy_xception", size_px=299, mean_std=_HALF),
    "xception-dense": _Architecture(
        build=lambda dropout: Backbone(DenseXception(dropout=dropout or 0.0)),
        size_px=224,
        dropout=None,
        timm="legacy_xception",
    ),
}


def list_models() -> list[str]:
    """List the names that ``create_model`` takes, sorted; it also takes ``timm:NAME`` for any network of timm.

    Example:
        >>> list_models()[:3]
        ['cnn-simple', 'cnn4', 'cnn6']
    """
    return sorted(_ARCHITECTURES)


def create_model(name: str, *, seed: int | None = None, dropout: float | None = None, outputs: int = 1) -> nn.Module:
    """Build an architecture with random weights, in training mode.

    Args:
        name: One of ``list_models()``, or ``timm:NAME`` for any network of timm. A suffix such as ``/64`` adds a hidden
            layer of 64 units before the logit.
        seed: Random seed of the weights; torch's global random state is left as it was. None draws from that state.
        dropout: Share of activations that training drops, 0 up to but not including 1; None takes the default of the
            architecture.
        outputs: Number of logits for each picture.

    Returns:
        A module that maps RGB pictures [N, 3, H, W] to logits [N], positive for fake; with several outputs, to
        [N, outputs].

    Raises:
        UnknownModel: No architecture of that name.
        MissingExtra: The architecture is one of timm's, and timm cannot be imported.
        InvalidOption: ``dropout`` is out of range.

    Example:
        >>> import torch
        >>> model = create_model("meso4", seed=0).eval()
        >>> model(torch.zeros(2, 3, 256, 256)).shape
        torch.Size([2])
    """
    check_number("dropout", dropout, optional=True)
    if dropout is not None and not 0 <= dropout < 1:
        raise InvalidOption(f"dropout is {dropout}, expected 0 or more and less than 1")
    check_number("outputs", outputs, low=1, whole=True)
    check_number("seed", seed, low=0, whole=True, optional=True)
    name, hidden = _name_and_hidden(name)
    build = _builder(name, dropout, hidden=hidden, outputs=outputs)
    with usual_defaults():
        if seed is None:
            return build()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed the accelerators as well
            return build()


def create_skeleton(name: str, *, outputs: int = 1) -> nn.Module:
    """Build an architecture without weights, which are assigned later: no memory is taken and nothing is drawn.

    Args:
        name: As for `create_model`.
        outputs: As for `create_model`.

    Returns:
        The module with its weights on torch's meta device. Networks of timm that cannot be built there, or have
        buffers that their state dict does not hold, come with random weights on the CPU.

    Raises:
        UnknownModel: No architecture of that name.
        MissingExtra: The architecture is one of timm's, and timm cannot be imported.

    Example:
        >>> next(create_skeleton("meso4").parameters()).device
        device(type='meta')
    """
    plain, hidden = _name_and_hidden(name)
    try:
        with usual_defaults(), torch.device("meta"), _Undrawn():
            model = _builder(plain, None, hidden=hidden, outputs=outputs)()
    except (NotImplementedError, RuntimeError):
        return create_model(name, seed=0, outputs=outputs)
    is_whole = not any(module._non_persistent_buffers_set for module in model.modules())
    return model if is_whole else create_model(name, seed=0, outputs=outputs)


def native_size_px(name: str) -> int:
    """Return the side of the square input that an architecture was made for, in pixels.

    Args:
        name: One of ``list_models()``, or ``timm:NAME``.

    Raises:
        UnknownModel: No architecture of that name.
        MissingExtra: The name begins with ``timm:``, and timm cannot be imported.

    Example:
        >>> native_size_px("xception")
        299
    """
    name, _ = _name_and_hidden(name)
    if name.startswith(TIMM):
        return backbone_size_px(name.removeprefix(TIMM))
    return _architecture(name).size_px


def native_mean_std(name: str) -> tuple[Triple, Triple]:
    """Return the mean and standard deviation of each RGB channel, in [0, 1], that an architecture was made for.

    Args:
        name: One of ``list_models()``, or ``timm:NAME``.

    Raises:
        UnknownModel: No architecture of that name.
        MissingExtra: The name begins with ``timm:``, and timm cannot be imported.

    Example:
        >>> native_mean_std("xception")
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    name, _ = _name_and_hidden(name)
    if name.startswith(TIMM):
        return backbone_mean_std(name.removeprefix(TIMM))
    return _architecture(name).mean_std


def imagenet_home(name: str) -> str:
    """Return the repository on the Hub that holds ImageNet weights of an architecture.

    Args:
        name: One of ``list_models()``, or ``timm:NAME``.

    Raises:
        UnknownModel: No architecture of that name.
        UnknownWeights: There are none on the Hub.
        MissingExtra: timm cannot be imported.
    """
    name, _ = _name_and_hidden(name)
    known = name.removeprefix(TIMM) if name.startswith(TIMM) else _architecture(name).timm
    if not known:
        raise UnknownWeights(f"there are no ImageNet weights of {name!r}; train it from scratch")
    return imagenet_repo(known)


_DRAWS = {torch.Tensor.normal_, torch.Tensor.uniform_} | {
    draw for name, draw in vars(torch.nn.init).items() if name.endswith(("normal_", "uniform_"))
}


class _Undrawn(TorchFunctionMode):
    """Skips random initialisation, for which torch's meta device would import its compiler."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _name_and_hidden(name: str) -> tuple[str, int]:
    plain, _, width = name.rpartition("/")
    return (plain, int(width)) if plain and width.isdecimal() and int(width) > 0 else (name, 0)


def _builder(name: str, dropout: float | None, *, hidden: int, outputs: int) -> Callable[[], nn.Module]:
    if name.startswith(TIMM) and not hidden:
        return functools.partial(create_backbone, name.removeprefix(TIMM), dropout=dropout, outputs=outputs)
    if name.startswith(TIMM):
        build: Callable[[], nn.Module] = functools.partial(create_backbone, name.removeprefix(TIMM), dropout=dropout)
    else:
        architecture = _architecture(name)
        build = functools.partial(architecture.build, dropout=architecture.dropout if dropout is None else dropout)
    return functools.partial(_with_head, build, hidden, outputs)


def _with_head(build: Callable[[], nn.Module], hidden: int, outputs: int) -> nn.Module:
    model = build()
    if hidden:
        add_hidden(model, hidden)
    if outputs > 1:
        set_outputs(model, outputs)
    return model


def _architecture(name: str) -> _Architecture:
    if name not in _ARCHITECTURES:
        hint = nearest(name, _ARCHITECTURES)
        raise UnknownModel(f"no architecture called {name!r}{hint} (networks of timm are written 'timm:NAME')")
    return _ARCHITECTURES[name]
