"""`footfall benchmark`: what the main job costs in time and memory, and how that grows."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

KINDS = {
    "speed": "measure the main job beside ultralytics, plain Ray Data and the limits, in turn",
    "profile": "say where each millisecond of a frame goes, process by process",
    "memory": "measure from outside what the main job adds under several caps",
    "tracking": "hold tracks against truth, part by part, and measure what they cost",
    "growth": "measure what a frame costs as footage grows longer and recordings more",
    "keys": "measure what many keys in S3 cost before the work begins",
    "labels": "measure what labels of Rekognition cost the run that they are made beside",
    "scale": "measure the control plane alone, with steps that cost nothing",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(prog="footfall benchmark", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    for name, text in KINDS.items():
        kinds.add_parser(name, help=text, add_help=False)
    options, rest = parser.parse_known_args(arguments)
    code: int = import_module(f"jobs.benchmark_{options.kind}").main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
