"""Find the last linear layer of a network, and widen it by a hidden layer."""

from __future__ import annotations

from torch import nn

from deepfake_detect.errors import UnknownModel


def last_linear(model: nn.Module) -> tuple[str, nn.Linear]:
    """Return the layer that computes the logit: the last dense layer, in the order in which layers were made.

    Returns:
        Its name in ``model.named_modules()``, and the layer.

    Raises:
        UnknownModel: The network has no dense layer with one output.

    Example:
        >>> from deepfake_detect import create_model
        >>> last_linear(create_model("meso4", seed=0))
        ('head.logit', Linear(in_features=16, out_features=1, bias=True))
    """
    name, last = _last_dense(model)
    if last.out_features != 1:
        raise UnknownModel(f"{type(model).__name__} does not end in a dense layer with one output")
    return name, last


def add_hidden(model: nn.Module, width: int) -> None:
    """Put a hidden layer with a ReLU before the logit, in place.

    Args:
        model: Ends in a dense layer with one output.
        width: Number of units of the hidden layer.

    Raises:
        UnknownModel: As for `last_linear`.
    """
    name, last = last_linear(model)
    parent = model.get_submodule(name.rpartition(".")[0])
    wider = nn.Sequential(nn.Linear(last.in_features, width), nn.ReLU(), nn.Linear(width, 1))
    setattr(parent, name.rpartition(".")[2], wider)


def set_outputs(model: nn.Module, outputs: int) -> None:
    """Replace the layer that gives the logit by one that gives several, in place.

    Args:
        model: Ends in a dense layer with one output.
        outputs: Logits for each picture.

    Raises:
        UnknownModel: As for `last_linear`.
    """
    name, last = last_linear(model)
    parent = model.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], nn.Linear(last.in_features, outputs))


def head_of(model: nn.Module) -> tuple[str, nn.Module]:
    """Return the head: the layers after the features, which are new where a network learns another task.

    Returns:
        Its name in ``model.named_modules()``, and the module: timm's classifier, the part called ``head``, or else the
        last dense layer.

    Example:
        >>> from deepfake_detect import create_model
        >>> head_of(create_model("meso4", seed=0))[0]
        'head'
    """
    net = getattr(model, "net", None)
    if isinstance(last := getattr(net, "last", None), str):
        return f"net.{last}", model.get_submodule(f"net.{last}")
    if net is not None and hasattr(net, "get_classifier"):
        classifier = net.get_classifier()
        return next((name, module) for name, module in model.named_modules() if module is classifier)
    head = getattr(model, "head", None)
    return ("head", head) if isinstance(head, nn.Module) else _last_dense(model)


def _last_dense(model: nn.Module) -> tuple[str, nn.Linear]:
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UnknownModel(f"{type(model).__name__} does not end in a dense layer")
    return layers[-1]
