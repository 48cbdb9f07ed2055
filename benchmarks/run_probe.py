"""run_probe.py nbkeras THREADS: answers each line SECONDS, in JSON: true if the processors are undisturbed within this time."""

import json
import sys

from limits import Probe


def main() -> None:
    probe, line = Probe(int(sys.argv[2])), "0"
    while line:
        print(json.dumps({"undisturbed": probe.settles(float(line))}), flush=True)
        line = sys.stdin.readline()


if __name__ == "__main__":
    main()
