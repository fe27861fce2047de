"""Test that a host process is the same after a predict as before, and that its settings change no answer.

Each program runs in a process of its own, as a host would. Run the first one by itself to see what a host sees:

    python tests/system/test_guest.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SNAPSHOT = """
import ctypes, json, locale, logging, os, platform, random, signal, sys, threading, warnings
import cv2, numpy as np, PIL.ImageFile, torch
from deepfake_detect import Detector, DeepfakeDetectError

real, fake = "portrait.jpg", "portrait_fake.jpg"

def refuse(*_):
    raise AssertionError("a thread count of the process was set")

def is_mapped(size):
    \"\"\"Say whether glibc takes a block of this size from the kernel, as the host has set its threshold.\"\"\"
    libc = ctypes.CDLL(None)
    if platform.libc_ver()[0] != "glibc" or not hasattr(libc, "mallinfo2"):
        return None
    class Info(ctypes.Structure):
        _fields_ = [(name, ctypes.c_size_t) for name in
                    "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
    libc.mallinfo2.restype, libc.malloc.restype, libc.free.argtypes = Info, ctypes.c_void_p, [ctypes.c_void_p]
    before, block = libc.mallinfo2().hblks, libc.malloc(size)
    mapped = libc.mallinfo2().hblks - before
    libc.free(block)
    return mapped

def in_thread(call):
    results = []
    thread = threading.Thread(target=lambda: results.append(call()))
    thread.start(); thread.join()
    return results[0]

def look():
    loggers = [logging.getLogger(), logging.getLogger("deepfake_detect")]
    return {
        "malloc maps blocks of 8 and 16 MiB": [is_mapped(n * 2**20) for n in (8, 16)],
        "torch threads": [torch.get_num_threads(), in_thread(torch.get_num_threads), torch.get_num_interop_threads()],
        "cv2 threads": cv2.getNumThreads(),
        "cv2 log level": cv2.utils.logging.getLogLevel(),
        "torch defaults": [str(torch.get_default_dtype()), str(torch.get_default_device()), torch.is_grad_enabled(),
                           torch.is_inference_mode_enabled(), torch.are_deterministic_algorithms_enabled(),
                           torch.backends.mkldnn.enabled, torch.get_float32_matmul_precision()],
        "torch methods": [id(torch.nn.Module.__call__), id(getattr(torch.nn.Module, "__getattr__"))],
        "signals": [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        "warnings": [str(entry) for entry in warnings.filters] + [str(warnings.showwarning)],
        "logging": [[str(logger.handlers), logger.level, logger.propagate, logger.disabled] for logger in loggers],
        "environment": dict(os.environ),
        "folder": os.getcwd(), "path": list(sys.path), "hooks": [str(sys.excepthook), str(threading.excepthook)],
        "threads": [thread.name for thread in threading.enumerate()],
        "random": [hash(random.getstate()), np.random.get_state()[1].tolist(), torch.get_rng_state().sum().item()],
        "locale": locale.setlocale(locale.LC_ALL), "umask": [os.umask(18), os.umask(18)][1],
        "Pillow": [PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.MAX_IMAGE_PIXELS],
        "stand-ins": [name for name, module in sys.modules.items() if module is None],
        "errstate": np.geterr(), "recursion": sys.getrecursionlimit(),
    }

os.umask(18)
if platform.libc_ver()[0] == "glibc":
    ctypes.CDLL(None).mallopt(-3, 2**20)  # the host wants blocks of 1 MiB and more from the kernel
torch.set_num_threads(2); cv2.setNumThreads(2)
torch.nn.functional.conv2d(torch.ones(1, 3, 64, 64), torch.ones(8, 3, 3, 3))
set_num_threads = torch.set_num_threads, cv2.setNumThreads
labels, changed = [], {}
for backend in ("torch", "openvino"):
    if backend == "openvino":
        import openvino  # the host uses it, too
    before = look()
    torch.set_num_threads = cv2.setNumThreads = refuse
    detector = Detector.from_pretrained("mobile-fakefaces", backend=backend)
    labels.append(detector.predict(real).label)
    list(detector.predict_many([real, fake] * 8, workers=3))
    detector.model
    try:
        detector.predict(b"no picture")
    except DeepfakeDetectError:
        pass
    torch.set_num_threads, cv2.setNumThreads = set_num_threads
    after = look()
    changed |= {f"{backend}: {name}": [before[name], after[name]] for name in before if before[name] != after[name]}
    if "--show" in sys.argv:
        for name in before:
            print(f"{backend}: {name}: {'the same' if before[name] == after[name] else 'CHANGED'}")
print(json.dumps({"labels": labels, "changed": changed}))
"""


def run(program: str, *arguments: str, flags: tuple[str, ...] = (), **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *flags, "-c", program, *arguments],
        cwd=EXAMPLES,
        env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_host_process_is_the_same_after_a_predict() -> None:
    assert json.loads(run(SNAPSHOT)) == {"labels": ["real", "real"], "changed": {}}


TELEMETRY = """
import json, os, socket, sys
forks, lookups = [], []
os.register_at_fork(before=lambda: forks.append(1))
resolve = socket.getaddrinfo
socket.getaddrinfo = lambda *args, **more: lookups.append(args[0]) or resolve(*args, **more)
from deepfake_detect import Detector
Detector.from_pretrained("meso4-fakefaces", backend="openvino").predict("portrait.jpg")
import openvino, openvino_telemetry
print(json.dumps([len(forks), lookups, os.listdir(os.environ["HOME"]), openvino_telemetry.__name__]))
"""


def test_openvino_does_not_report_that_it_is_used(tmp_path: Path) -> None:
    environment = dict.fromkeys(("CI",), "") | {"HOME": str(tmp_path)}
    assert json.loads(run(TELEMETRY, **environment)) == [0, [], [], "openvino_telemetry"]


FORK = """
import multiprocessing, os, sys
from deepfake_detect import BackendUnavailable, Detector
detector = Detector.from_pretrained("meso4-fakefaces", backend=sys.argv[1])
data = ["portrait.jpg", "portrait_fake.jpg"] * 3
def score(path):
    try:
        predictions = [detector.predict(path), *detector.predict_many([path] * 2, workers=2)]
    except BackendUnavailable as error:
        return [], ["spawn" in str(error)]
    return [prediction.score for prediction in predictions], {prediction.backend for prediction in predictions}
def explain_and_train(_=None):
    tuned = detector.fine_tune(list(zip(data, ["real", "fake"] * 3)), epochs=1, check="off", augment="none", valid=0)
    return detector.explain("portrait.jpg").score, tuned.history[0].loss
def in_children(function, arguments):
    with multiprocessing.get_context("fork").Pool(len(arguments)) as pool:
        return pool.map_async(function, arguments).get(timeout=100)
(scores, unused), = in_children(score, ["portrait.jpg"])
expected, backend = score("portrait.jpg")
assert unused == backend, (unused, backend)  # what was only loaded runs in a child as in its parent
assert all(abs(score - expected[0]) < 1e-5 for score in scores + expected), (scores, expected)
for scores, backends in in_children(score, ["portrait.jpg"] * 2):
    if sys.argv[1] == "openvino":
        assert backends == [True]
    else:
        assert backends == {"torch-packed"} and len(scores) == 3
        assert all(abs(score - expected[0]) < 1e-5 for score in scores), (expected, scores)
assert score("portrait.jpg")[1] == backend
if sys.argv[1] == "torch":
    explained, loss = explain_and_train()
    for other, other_loss in in_children(explain_and_train, [None]):
        assert abs(other - explained) < 1e-5 and abs(other_loss - loss) < 1e-4, (other, explained, other_loss, loss)
child = os.fork()
if not child:
    score("portrait.jpg")
    sys.exit(7)  # ends as a whole, destructors and all
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("backend", ["torch", "openvino", "auto"])
def test_a_detector_that_was_used_answers_in_a_forked_child_or_says_what_to_do(backend: str, tmp_path: Path) -> None:
    run(FORK, backend, flags=("-W", "ignore::DeprecationWarning"), DEEPFAKE_DETECT_CACHE=str(tmp_path))


THREADS = """
import copy, pickle, sys, threading
from concurrent.futures import ThreadPoolExecutor
import torch
from deepfake_detect import Detector
names = ("mobile-fakefaces", "meso4-fakefaces")
stop, strange = threading.Event(), []
def explain(detector):
    return detector.explain("portrait.jpg", faithfulness="off").prediction
def host():  # runs a model of its own meanwhile
    model, batch = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU()), torch.ones(2, 4)
    right = model(batch)
    while not stop.wait(0.001):
        if not torch.equal(model(batch), right):
            strange.append(1)
thread = threading.Thread(target=host); thread.start()
for backend in ("torch", "openvino"):
    expected = {name: Detector.from_pretrained(name, backend=backend).predict("portrait.jpg").score for name in names}
    for _ in range(2):
        fresh = {name: Detector.from_pretrained(name, backend=backend) for name in names}
        with ThreadPoolExecutor(16) as pool:
            jobs = [(name, pool.submit(fresh[name].predict, "portrait.jpg")) for name in names * 8]
            jobs += [(name, pool.submit(explain, fresh[name])) for name in names]
            for name, job in jobs:
                assert abs(job.result().score - expected[name]) < 1e-5, (backend, name, job.result().score)
    detector = fresh["meso4-fakefaces"]
    for again in (pickle.loads(pickle.dumps(detector)), copy.deepcopy(detector), copy.copy(detector)):
        assert abs(again.predict("portrait.jpg").score - expected["meso4-fakefaces"]) < 1e-6
        assert again.predict("portrait.jpg").backend == detector.predict("portrait.jpg").backend
    with torch.no_grad():
        detector.model.head.logit.bias += 3.0
    other = pickle.loads(pickle.dumps(detector)).predict("portrait.jpg").logit  # what was changed goes along
    assert abs(other - detector.predict("portrait.jpg").logit) < 1e-4 and other > 2
stop.set(); thread.join()
assert not strange
"""


def test_threads_that_use_new_detectors_at_once_and_copies_answer_alike() -> None:
    run(THREADS)


DEFAULTS = """
import sys, torch
from deepfake_detect import Card, Detector, Preprocessing, create_model
from deepfake_detect.weights.load import save_bundle
data = [("portrait.jpg", "real"), ("portrait_fake.jpg", "fake")] * 4
model = create_model("meso4", seed=0).eval()
model.head.logit.weight.data *= 300  # logits of some units
card = Card(name="small", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=64))
save_bundle(model, card, sys.argv[1], half=False)
def new():
    return Detector.from_pretrained(sys.argv[1], backend=backend)
def answers():
    detector = new()
    tuned = new().fine_tune(data, epochs=1, freeze="backbone", check="off", augment="none")
    heat = detector.explain("portrait.jpg", faithfulness="off").heat
    return detector.predict("portrait.jpg").score, float(heat.sum()), len(tuned.history)
def check(what):
    changed = answers()
    assert all(abs(a - b) <= 1e-4 * max(1, abs(b)) for a, b in zip(changed, right)), (backend, what, changed, right)
for backend in ("torch", "openvino"):
    right = answers()
    torch.set_default_dtype(torch.float64); check("float64"); assert torch.get_default_dtype() == torch.float64
    torch.set_default_dtype(torch.float32)
    torch.set_default_device("meta"); check("meta"); torch.set_default_device(None)
    with torch.no_grad(): check("no_grad")
    with torch.inference_mode():
        check("inference_mode")
        inside = new(); inside.predict("portrait.jpg")
    assert inside.explain("portrait.jpg", faithfulness="off").prediction.label
    detector = new().to(backend=backend)
    model = detector.model.train()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(3):
        assert abs(detector.predict("portrait.jpg").score - right[0]) < 1e-5
    assert model.training and all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
"""


def test_defaults_of_torch_and_the_mode_of_a_model_change_no_answer(tmp_path: Path) -> None:
    run(DEFAULTS, str(tmp_path / "small"), DEEPFAKE_DETECT_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="1")


REFUSALS = """
import json, sys, tempfile
from dataclasses import replace
from pathlib import Path
import numpy as np, torch
from deepfake_detect import Card, DeepfakeDetectError, Detector, Preprocessing, create_model, find_faces
from deepfake_detect.metrics.classification import best_threshold, roc_auc
from deepfake_detect.metrics.conformal import conformal_threshold
from deepfake_detect.models.transfer import take_over
from deepfake_detect.weights.load import load_model, save_bundle
assert False, "without -O this ends here"
folder = Path(tempfile.mkdtemp())
card = Card(name="mine", version=0, architecture="meso4", preprocessing=Preprocessing(size_px=64))
model = create_model("meso4", seed=0).eval()
save_bundle(model, card, folder / "good")
save_bundle(model, card, folder / "cut"); (folder / "cut/model.safetensors").write_bytes(b"no")
save_bundle(model, card, folder / "edited")
values = json.loads((folder / "edited/card.json").read_text())
(folder / "edited/card.json").write_text(json.dumps({**values, "threshold": 0.1}))
odd = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 64), torch.nn.Tanh(), torch.nn.Flatten(0))
broken = create_model("meso4", seed=0)
broken.features[0].norm.running_mean.fill_(torch.nan)
unknown = Detector(model=odd, card=card, device="cpu", backend="openvino")
detector = Detector.from_pretrained(folder / "good", backend="torch")
refused = {
    "damaged weights": lambda: load_model(folder / "cut"),
    "an edited card": lambda: load_model(folder / "edited"),
    "another architecture": lambda: save_bundle(model, replace(card, architecture="cnn4"), folder / "no"),
    "NaN": lambda: save_bundle(broken, card, folder / "no"),
    "a margin of 0": lambda: Preprocessing(size_px=64, margin=0),
    "a threshold of 2": lambda: replace(card, threshold=2),
    "an unknown model": lambda: create_model("meso5"),
    "an unknown name": lambda: Detector.from_pretrained("nothing"),
    "weights of another network": lambda: take_over(model, {"a": torch.zeros(3)}),
    "no picture": lambda: detector.predict(b"no picture"),
    "a threshold": lambda: detector.predict("portrait.jpg", threshold=7),
    "a choice of faces": lambda: detector.predict("portrait.jpg", faces="some"),
    "a device": lambda: detector.to("nowhere"),
    "a network that OpenVINO cannot run": lambda: unknown.predict("portrait.jpg"),
    "a layer": lambda: detector.explain("portrait.jpg", layer="nothing"),
    "one class": lambda: best_threshold([1, 1], [0.1, 0.2]),
    "labels": lambda: roc_auc([0, 2], [0.1, 0.2]),
    "too few": lambda: conformal_threshold([0.1, 0.2], max_false_alarm=0.01),
    "no data": lambda: detector.fine_tune([]),
    "one label": lambda: detector.fine_tune([("portrait.jpg", "real")] * 4, check="off"),
}
passed = []
for name, call in refused.items():
    try:
        call()
        passed.append(name)
    except (DeepfakeDetectError, ValueError):
        pass
print(json.dumps([len(refused), passed]))
"""


def test_wrong_input_is_refused_without_asserts(tmp_path: Path) -> None:
    assert run(REFUSALS, flags=("-O",), DEEPFAKE_DETECT_CACHE=str(tmp_path)) == "[20, []]\n"


if __name__ == "__main__":
    print(run(SNAPSHOT, "--show"))
