"""python -m benchmarks.zoo --peer-python PATH [--nets A,B] [--rounds N] [--level x86-64-v3]: nets of packages for Keras 2.

Predictions of four images by the nets of tests/packages/zoo.py in their usual sizes, with nbkeras as Keras 2 and with tf_keras,
on all processors. Both Pythons need the packages that scripts/make_zoo_references.py names. Each framework has a process for a
net; rounds alternate. The table shows the time of the first prediction, which compiles or records, and the least time of a later
one.
"""

import argparse
import os
import sys

from benchmarks import levels
from benchmarks.runners import FOLDER, Missing, Process

NETS = (
    "Xception ResNeXt50 ResNet50 ResNet50V2 DenseNet121 InceptionV3 InceptionResNetV2 MobileNet MobileNetV2 NASNetMobile VGG16 "
    "resnext50 seresnet18 EfficientNetB0 Unet FPN Linknet PSPNet"
).split()


def measured(net: str, pythons: dict[str, str], rounds: int, level: str | None) -> dict[str, tuple[float, float]]:
    """Framework -> the seconds of its first prediction, and the least of a later one."""
    environment = {**os.environ, **levels.variables(level, os.environ)}
    processes: dict[str, Process] = {}
    found = {}
    try:
        for name, python in pythons.items():
            processes[name] = Process(name, [python, str(FOLDER / "run_zoo.py"), name, net], environment)
        times: dict[str, list[float]] = {name: [] for name in processes}
        for _ in range(rounds):
            for name, process in processes.items():
                process.ask("round")
                times[name] += process.answer()["seconds"]
        for name, process in processes.items():
            found[name] = process.ready["first"], min(times[name])
    finally:
        for process in processes.values():
            process.close()
    return found


def main(argv: list[str] | None = None) -> None:
    """Measure, and print the table."""
    usage, _, description = __doc__.partition("\n\n")
    parser = argparse.ArgumentParser(prog=usage.split(" --")[0], description=description)
    parser.add_argument("--peer-python", metavar="PATH", required=True, help="the Python with tf_keras")
    parser.add_argument("--python", metavar="PATH", default=sys.executable, help="the Python with nbkeras")
    parser.add_argument("--nets", default=",".join(NETS), help="names, separated by commas (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds of 5 predictions (default 3)")
    parser.add_argument("--level", choices=list(levels.VARIABLES), help="limit the instructions of both frameworks")
    options = parser.parse_args(argv)
    pythons = {"nbkeras": options.python, "tf_keras": options.peer_python}
    print("| net | first: nbkeras, s | tf_keras | later: nbkeras, ms | tf_keras | ratio |\n|---|---|---|---|---|---|")
    for net in options.nets.split(","):
        try:
            (first, own), (peer_first, peer) = measured(net, pythons, options.rounds, options.level).values()
        except Missing as missing:
            sys.exit(f"{net}: {missing}")
        cells = [f"{first:.2f}", f"{peer_first:.2f}", f"{1e3 * own:.0f}", f"{1e3 * peer:.0f}", f"{own / peer:.2f}"]
        print(f"| {net} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
