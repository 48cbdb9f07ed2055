"""The long fuzzing run: `python tests/fuzz --cases 100000 --seed 1`. CONTRIBUTING.md describes it."""

import argparse
import os
import sys
import time

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [FOLDER, os.path.join(os.path.dirname(FOLDER), "reference")]

import fuzz_campaign  # noqa: E402 (it lies in the folder just named)


def main():
    parser = argparse.ArgumentParser(description="Call nbkeras with arguments and files of every kind.")
    parser.add_argument("--cases", type=int, default=1000, help="in all; each family gets its share")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the number of the first case of each family")
    parser.add_argument("--family", choices=fuzz_campaign.FAMILIES, help="only this one")
    parser.add_argument("--only", type=int, help="one case, in this process, with its traceback (needs --family)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return fuzz_campaign.work(options.worker)
    if options.only is not None:
        return fuzz_campaign.show(options.family, options.seed, options.only)
    families = [options.family] if options.family else list(fuzz_campaign.FAMILIES)
    failed = 0
    for family in families:
        start = time.monotonic()
        counts, found = fuzz_campaign.campaign(family, options.seed, options.cases // len(families), options.first)
        seconds = time.monotonic() - start
        number = sum(counts.values())
        print(
            f"{family}: {number} cases of seed {options.seed} in {seconds:.0f} s: {dict(counts)}, {len(found)} faults"
        )
        sys.stdout.flush()
        failed += len(found)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
