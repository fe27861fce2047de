"""Score pictures with a Dask bag, on this machine or on a cluster; each process loads the model once.

Usage: python examples/scale_dask.py FOLDER OUT   (pip install 'dask[bag,dataframe]')
"""

import functools
import sys
from collections.abc import Iterable

import dask.bag

from deepfake_detect import Detector, score_rows
from deepfake_detect.inputs.listing import files_below


@functools.cache
def load_detector() -> Detector:
    return Detector.from_pretrained("mobile-fakefaces")


def score(paths: Iterable[str]) -> list[dict]:
    return score_rows(load_detector(), list(paths))


if __name__ == "__main__":
    bag = dask.bag.from_sequence(files_below(sys.argv[1]), partition_size=64)
    frame = bag.map_partitions(score).to_dataframe()
    frame[["path", "label", "score", "error", "weights"]].to_parquet(sys.argv[2])
