"""Score pictures on a Ray cluster of two nodes, kill a process that scores in the middle, and compare with one machine.

Usage:
    python benchmarks/ray_cluster.py --pictures FOLDER --count 400

Both nodes are on this machine. After a third of the pictures, one of the processes that hold the model gets SIGKILL.
Prints what became of every picture, and how far the scores are from those of `Detector.predict_many`. Needs the extra
``[ray]``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from deepfake_detect import Detector, score_dataset
from deepfake_detect.inputs.listing import files_below
from deepfake_detect.scale.parts import PartFolder
from deepfake_detect.scale.rows import score_rows


def workers() -> list[int]:
    """Return the process numbers of the actors that score."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::" in line and "MapBatches(Scorer)" in line]


def kill_one(out: Path, *, after: int, killed: list[int]) -> None:
    """Wait until so many pictures are on disk, then kill one of the processes that score."""
    while True:
        done = PartFolder(str(out), settings="").read().num_rows if out.is_dir() else 0
        if done >= after and workers():
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)
            return
        time.sleep(0.2)


def main() -> None:
    """Read the command line, run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--model", default="mobile-fakefaces")
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    names = files_below(str(options.pictures))[: options.count]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    out, killed = Path(tempfile.mkdtemp()) / "scores.parquet", list[int]()
    threading.Thread(
        target=kill_one, args=(out,), kwargs={"after": len(names) // 3, "killed": killed}, daemon=True
    ).start()
    result = score_dataset(names, out=out, model=options.model, actors=2, batch_size=options.batch_size)
    again = score_dataset(names, out=out, model=options.model, actors=2, batch_size=options.batch_size)
    rows = PartFolder(str(out), settings="").read().to_pylist()
    nodes = len(ray.nodes())
    ray.shutdown()
    cluster.shutdown()
    alone = {row["path"]: row for row in score_rows(Detector.from_pretrained(options.model), names)}
    moved = [
        abs(row["score"] - alone[row["path"]]["score"])
        for row in rows
        if row["score"] is not None and alone[row["path"]]["score"] is not None
    ]
    labels = sum(row["label"] != alone[row["path"]]["label"] for row in rows)
    print(f"{len(names)} pictures, {nodes} nodes, killed process {killed}")
    print(f"rows {len(rows)}, different pictures {len({row['path'] for row in rows})}, failed {result.failed}")
    print(
        f"first run: scored {result.scored} in {result.seconds:.1f} s; second: kept {again.kept}, scored {again.scored}"
    )
    print(f"against predict_many: {labels} labels differ, scores by {max(moved, default=0):.1e} at most")


if __name__ == "__main__":
    main()
