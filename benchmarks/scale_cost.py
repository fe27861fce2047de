"""Compute what many pictures take and cost, from a measured rate and a stated price.

Usage:
    python benchmarks/scale_cost.py --rate 27.1 --cores 2 --price 0.04

``--rate`` is what `benchmarks/predict_many.py` prints for faces found, in pictures a second on ``--cores`` cores;
``--price`` what a core costs for an hour. Time and cost are those of scoring alone: reading from a store far away can
take longer, and a cluster is never fully busy.
"""

from __future__ import annotations

import argparse


def main() -> None:
    """Read the command line and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, required=True, help="pictures a second")
    parser.add_argument("--cores", type=int, required=True, help="on so many cores")
    parser.add_argument("--price", type=float, required=True, help="of a core for an hour")
    options = parser.parse_args()
    print("| pictures | core-hours | hours on 64 cores | price |\n|---|---|---|---|")
    for pictures in (1e5, 1e6, 1e9):
        hours = pictures / options.rate * options.cores / 3600
        print(f"| {pictures:,.0f} | {hours:,.1f} | {hours / 64:,.1f} | {hours * options.price:,.2f} |")


if __name__ == "__main__":
    main()
