"""`footfall`: every job behind one command. A verb is a module of this folder with a `main`."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

VERBS = {
    "backfill": "turn recordings into movement logs",
    "nodes": "have a cluster's autoscaler bring nodes, then run another verb on them",
    "plan": "list what a backfill would do; touches nothing",
    "status": "say what of an output is done, what failed, what is left",
    "retry": "do again what failed in an output",
    "verify": "read every file of an output, and hold it against its ledger",
    "metrics": "show where the time of a run went, and its memory against the cap",
    "preview": "draw lines, zones and boxes into one still of a recording",
    "refine": "join, fill and smooth tracks again; tell events and counts of other zones",
    "evaluate": "hold a movement log against truth: HOTA, MOTA, IDF1",
    "export": "write a movement log as MOTChallenge's lines or for CVAT",
    "compact": "merge the small files of an output into few, large ones",
    "purge": "throw away what is older than a date, or all of a camera; it stays away",
    "demo": "run the main job on footage with known truth, or on yours",
    "benchmark": "measure the main job: speed beside its peers, memory, scale",
    "soak": "kill whatever runs, at random moments, and see whether anything is lost",
    "weights": "put the default weights into the cache",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the verb that the command line names."""
    parser = argparse.ArgumentParser(
        prog="footfall",
        description="Turns archives of camera footage into movement logs.",
        epilog="`footfall VERB --help` lists the options of a verb.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, text in VERBS.items():
        verbs.add_parser(name, help=text, add_help=False)
    options, rest = parser.parse_known_args(arguments)
    code: int = import_module(f"jobs.{options.verb}").main(rest)
    return code


if __name__ == "__main__":
    sys.exit(main())
