"""`footfall weights`: put the default weights into the cache, once."""

import argparse
import sys

from pipeline.errors import ConfigError
from pipeline.weights import KNOWN, Weights, convert, fetch_known


def main(arguments: list[str] | None = None) -> int:
    """Fetch known weights and convert them for the CPU."""
    parser = argparse.ArgumentParser(prog="footfall weights", description=main.__doc__)
    parser.add_argument(
        "name", nargs="?", default="yolov8n.pt", help=f"one of {', '.join(sorted(KNOWN))}"
    )
    options = parser.parse_args(arguments)
    try:
        path = fetch_known(options.name)
        convert(Weights(path=str(path), sha256=KNOWN[options.name].sha256))
    except ConfigError as error:
        print(f"footfall weights: {error}", file=sys.stderr)
        return 2
    print(f"weights: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
