"""run_probe.py nbkeras THREADS: answers each line of its standard input with whether the processors are undisturbed, in JSON."""

import json
import sys

from limits import Probe


def main() -> None:
    probe = Probe(int(sys.argv[2]))
    while True:
        print(json.dumps({"undisturbed": probe.is_undisturbed()}), flush=True)
        if not sys.stdin.readline():
            return


if __name__ == "__main__":
    main()
