"""`footfall weights`: put the default weights into the cache, once."""

import argparse
import sys

from jobs.exits import EXIT_OK, ending
from pipeline.weights import KNOWN, Weights, convert, fetch_known


def main(arguments: list[str] | None = None) -> int:
    """Fetch known weights and convert them for the CPU."""
    parser = argparse.ArgumentParser(prog="footfall weights", description=main.__doc__)
    parser.add_argument(
        "name", nargs="?", default="yolov8n.pt", help=f"one of {', '.join(sorted(KNOWN))}"
    )
    options = parser.parse_args(arguments)
    return ending("weights", lambda: _fetch(options.name))


def _fetch(name: str) -> int:
    path = fetch_known(name)
    convert(Weights(path=str(path), sha256=KNOWN[name].sha256))
    print(f"weights: {path}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(main())
