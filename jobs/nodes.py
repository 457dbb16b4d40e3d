"""`footfall nodes`: have a cluster's autoscaler bring nodes, then run a verb, and let go of them.

    footfall nodes --want gpu-node=2 --want cpu-node=2 backfill --input ... --output ...

It is one command, since what submits jobs takes one.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module

from cluster.scaling import ask_for, wait_for
from cluster.session import open_session, under_ray_job
from jobs.console import open_console
from jobs.exits import ending
from jobs.main import VERBS
from pipeline.errors import ConfigError

# By its name: under `python -m` this module is `__main__`.
log = logging.getLogger("jobs.nodes")


def parse_wanted(words: Sequence[str]) -> dict[str, int]:
    """Return the wanted units by resource, from words such as "gpu-node=2".

    Raises:
        ConfigError: A word is none of these, or names a resource again.
    """
    wanted: dict[str, int] = {}
    for word in words:
        name, equals, count = word.partition("=")
        if not (name and equals and count.isdecimal() and int(count) > 0):
            raise ConfigError(f"want = {word!r}: write it as gpu-node=2, a resource and how many")
        if name in wanted:
            raise ConfigError(f"want = {word!r}: {name} is wanted twice")
        wanted[name] = int(count)
    return wanted


@contextmanager
def nodes(wanted: Mapping[str, int], wait_s: float, address: str) -> Iterator[None]:
    """Have nodes in the cluster for as long as the `with` block runs.

    Args:
        wanted: Units by resource.
        wait_s: How long to wait for all of them; after that one of each is enough.
        address: Of the cluster; "" means the one whose job this is.

    Raises:
        ConfigError: There is no cluster, or nothing of a resource came.
    """
    if not address and not under_ray_job():
        raise ConfigError("nodes: submit it as a job of a Ray cluster, or give its --address")
    try:
        with open_session(0, address or None):
            log.info("Asking for nodes: %s", ", ".join(f"{n} {name}" for name, n in wanted.items()))
            ask_for(wanted)
            waited = wait_for(wanted, wait_s)
        if waited.absent:
            raise ConfigError(
                f"nodes: after {wait_s:g} s the cluster has {waited}: does a group of nodes have the "
                "resource, and may it grow? With --wait-s it gets more time"
            )
        log.log(logging.WARNING if waited.lacking else logging.INFO, "The cluster has %s", waited)
        yield
    finally:
        with open_session(0, address or None):
            ask_for({})


def command_line() -> argparse.ArgumentParser:
    """Return the parser of this verb's own options, which leaves those of the other verb in `rest`."""
    parser = argparse.ArgumentParser(
        prog="footfall nodes",
        description=main.__doc__,
        epilog="Its exit code is the verb's; 2 if no nodes came.",
    )
    parser.add_argument(
        "--want",
        action="append",
        required=True,
        metavar="RESOURCE=N",
        help="units of a resource that the cluster shall have, each on any node; repeatable",
    )
    parser.add_argument(
        "--wait-s",
        type=float,
        default=1800.0,
        metavar="S",
        help="how long to wait for all of them; then one of each is enough (default: 1800)",
    )
    parser.add_argument("--address", default="", help="of the cluster, off its own jobs")
    parser.add_argument("verb", choices=sorted(set(VERBS) - {"nodes"}), metavar="VERB")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="the verb's own")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Have a cluster's autoscaler bring nodes, then run a verb, and let go of them."""
    options = command_line().parse_args(arguments)
    open_console()
    return ending("nodes", lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    with nodes(parse_wanted(options.want), options.wait_s, options.address):
        code: int = import_module(f"jobs.{options.verb}").main(options.rest)
        return code


if __name__ == "__main__":
    sys.exit(main())
