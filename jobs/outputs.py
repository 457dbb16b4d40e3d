"""How a verb names the output that it is about, and reaches it."""

import argparse
import tomllib
from dataclasses import replace

from pipeline.aws import AwsSettings
from pipeline.run_folder import RunFolder, find_run
from pipeline.store import in_s3, reach_s3

CONFIG = "config.toml"


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

    What a verb adds to it is encrypted as its last start has it; how it is reached is told anew.

    Raises:
        ConfigError: There is none, or S3 does not let us see.
    """
    aws = AwsSettings(
        profile=options.profile or "",
        region=options.region or "",
        endpoint_url=options.endpoint_url or "",
    )
    reach_s3(aws)
    run = find_run(options.output)
    if in_s3(run.path) and (config := run.read_text(CONFIG)):
        reach_s3(replace(aws, kms_key_id=str(tomllib.loads(config).get("kms_key", ""))))
    return run
