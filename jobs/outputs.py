"""How a verb names the output that it is about, and reaches it."""

import argparse

from pipeline.aws import AwsSettings
from pipeline.run_folder import RunFolder, find_run
from pipeline.store import reach_s3


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the output, and how S3 is reached, to a verb's command line."""
    parser.add_argument(
        "output", metavar="OUTPUT", help="folder of the tables, or s3://bucket/prefix/"
    )
    parser.add_argument("--profile", metavar="PROFILE", help="AWS profile, for an output in S3")
    parser.add_argument("--region", metavar="REGION", help="AWS region, for an output in S3")
    parser.add_argument(
        "--endpoint-url", metavar="URL", help="a server other than AWS that speaks S3"
    )


def find_output(options: argparse.Namespace) -> RunFolder:
    """Return the run whose results are in the output that options name.

    Raises:
        ConfigError: There is none, or S3 does not let us see.
    """
    reach_s3(
        AwsSettings(
            profile=options.profile or "",
            region=options.region or "",
            endpoint_url=options.endpoint_url or "",
        )
    )
    return find_run(options.output)
