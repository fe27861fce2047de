"""Score pictures with Spark, as a function of a column of paths; each task loads the model once.

Usage: spark-submit examples/scale_spark.py FOLDER OUT   (pip install pyspark, and Java)
"""

import sys
from collections.abc import Iterator

import pandas as pd

from deepfake_detect import Detector, score_rows
from deepfake_detect.inputs.listing import files_below

SCHEMA = "path string, label string, score double, error string, weights string"
COLUMNS = ("path", "label", "score", "error", "weights")


def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
    detector = Detector.from_pretrained("mobile-fakefaces")
    for paths in batches:
        rows = score_rows(detector, paths)
        yield pd.DataFrame(rows, columns=COLUMNS)


def main() -> None:
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import pandas_udf

    spark = SparkSession.builder.getOrCreate()
    paths = spark.createDataFrame([(path,) for path in files_below(sys.argv[1])], "path string").repartition(8)
    scored = paths.select(pandas_udf(score, SCHEMA)("path").alias("row")).select("row.*")
    scored.write.mode("overwrite").parquet(sys.argv[2])


if __name__ == "__main__":
    main()
