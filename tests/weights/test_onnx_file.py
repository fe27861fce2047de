"""Test that an ONNX file is read strictly: whole, unchanged, ours, and without other files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deepfake_detect import UnknownWeights, WeightsCorrupted, WeightsMismatch
from deepfake_detect.export.onnx_model import to_bytes
from deepfake_detect.weights.bundle import find_bundle
from deepfake_detect.weights.onnx_file import PREFIX, UNSEALED, find_weights, read_onnx
from tests.small_world import CARD


def model(*, constant: TensorProto | None = None) -> onnx.ModelProto:
    """Make a graph that gives the mean of a picture, plus a constant."""
    constant = constant or numpy_helper.from_array(np.ones(1, np.float32), "one")
    nodes = [
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0, axes=[1, 2, 3]),
        helper.make_node("Add", ["mean", constant.name], ["logit"]),
    ]
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 3, 64, 64])
    logit = helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["batch"])
    graph = helper.make_graph(nodes, "mean", [pixels], [logit], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def content(proto: onnx.ModelProto | None = None) -> bytes:
    return to_bytes(proto or model(), card=CARD, dtype="float32", input_kind="pixels")


def elsewhere() -> onnx.ModelProto:
    constant = numpy_helper.from_array(np.ones(1, np.float32), "one")
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/hostname")
    return model(constant=constant)


def elsewhere_in_a_branch() -> onnx.ModelProto:
    """Keep the tensor that refers elsewhere as the attribute of a node within a branch."""
    (constant,) = elsewhere().graph.initializer
    inner = helper.make_node("Constant", [], ["two"], value=constant)
    branch = helper.make_graph([inner], "branch", [], [helper.make_empty_tensor_value_info("two")])
    proto = model()
    proto.graph.node.append(helper.make_node("If", ["mean"], ["three"], then_branch=branch, else_branch=branch))
    return proto


def without_metadata(**changes: str) -> bytes:
    """Make a file whose metadata are changed and sealed again, which anybody can do."""
    proto = onnx.load_from_string(content())
    props = {entry.key.removeprefix(PREFIX): entry.value for entry in proto.metadata_props} | changes
    helper.set_model_props(proto, {PREFIX + name: value for name, value in props.items() if value})
    return seal(proto)


def seal(proto: onnx.ModelProto) -> bytes:
    """Compute the checksum in another way than the package does: by the parsed message."""
    for entry in proto.metadata_props:
        if entry.key == f"{PREFIX}sha256":
            entry.value = UNSEALED
            entry.value = hashlib.sha256(proto.SerializeToString(deterministic=True)).hexdigest()
    return proto.SerializeToString(deterministic=True)


def test_a_file_comes_back_with_its_card(tmp_path: Path) -> None:
    path = tmp_path / "model.ONNX"
    path.write_bytes(content())
    file = find_weights(path)
    assert file == read_onnx(path) and file.card == CARD
    assert path.read_bytes() == seal(onnx.load(path))
    assert find_weights("meso4-fakefaces") == find_bundle("meso4-fakefaces")


def test_every_changed_byte_is_noticed(tmp_path: Path) -> None:
    """Bytes of the graph, the constants, the card and the checksum, one at a time."""
    path, whole = tmp_path / "model.onnx", content()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x11]) + whole[place + 1 :])
        with pytest.raises((WeightsCorrupted, WeightsMismatch)):
            read_onnx(path)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: b"", WeightsCorrupted, r"0 bytes\) is no whole ONNX file \(it has no graph\)"),
        (lambda: b"PK\x03\x04 a zip archive", WeightsCorrupted, "no whole ONNX file"),
        (lambda: content()[:-9], WeightsCorrupted, "no whole ONNX file"),
        (lambda: content() + b"\xff", WeightsCorrupted, "no whole ONNX file"),
        (lambda: b"\x3a" + b"\x80" * 11 + content(), WeightsCorrupted, "more than 10 bytes"),
        (lambda: model().SerializeToString(), WeightsMismatch, "no deepfake_detect.card in its metadata"),
        (lambda: without_metadata(card=""), WeightsMismatch, "no deepfake_detect.card in its metadata"),
        (lambda: without_metadata(card="{}"), WeightsMismatch, "model.onnx: card"),
        (lambda: without_metadata(layout="2"), WeightsMismatch, "layout '2'"),
        (lambda: without_metadata(dtype="float8"), WeightsMismatch, "dtype 'float8'"),
        (lambda: content() + b"\xfa\x01\x01x", WeightsCorrupted, "damaged or was edited"),
        (lambda: content() + content(), WeightsCorrupted, "stands twice"),
        (lambda: content(elsewhere()), WeightsMismatch, "weights in other files"),
        (lambda: content(elsewhere_in_a_branch()), WeightsMismatch, "weights in other files"),
    ],
)
def test_a_file_of_a_stranger_is_refused(
    make: Callable[[], bytes], error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(make())
    with pytest.raises(error, match=message):
        read_onnx(tmp_path / "model.onnx")


def test_graphs_without_end_are_refused(tmp_path: Path) -> None:
    """Each attribute holds a graph with a node with an attribute; lengths are right at every level."""
    inner = b""
    for _ in range(100):
        for key in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            inner = bytes([key]) + _length(len(inner)) + inner
    (tmp_path / "model.onnx").write_bytes(b"\x3a" + _length(len(inner)) + inner)
    with pytest.raises(WeightsCorrupted, match="nested too deeply"):
        read_onnx(tmp_path / "model.onnx")


def _length(number: int) -> bytes:
    parts = [number >> shift & 0x7F for shift in range(0, 35, 7)]
    return bytes([*(part | 0x80 for part in parts[:-1]), parts[-1]])


def test_what_is_no_file_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(UnknownWeights, match=r"no file '.*gone\.onnx'"):
        find_weights(tmp_path / "gone.onnx")
    (tmp_path / "model.onnx").write_bytes(content())
    with pytest.raises(UnknownWeights, match="has no revision 'main'"):
        find_weights(tmp_path / "model.onnx", revision="main")
