"""Score a Hugging Face data set with `map`: the columns of `score_rows` beside those that it has.

Usage: python examples/scale_datasets.py FOLDER   (pip install datasets)
"""

import sys

from datasets import Dataset

from deepfake_detect import Detector, score_rows
from deepfake_detect.inputs.listing import files_below

detector = Detector.from_pretrained("mobile-fakefaces")


def score(batch: dict) -> dict:
    rows = score_rows(detector, batch["path"])
    return {name: [row[name] for row in rows] for name in rows[0]}


if __name__ == "__main__":
    pictures = Dataset.from_dict({"path": files_below(sys.argv[1])})
    print(pictures.map(score, batched=True, batch_size=64).to_pandas()[["path", "label", "score"]])
