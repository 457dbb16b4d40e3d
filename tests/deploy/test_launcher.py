"""The file of `ray up`: Ray's launcher and EC2 know every field, and it means what a run needs."""

import functools

import botocore.session
import pytest
from botocore.validate import ParamValidator
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.deploy.files import documents, dotted, entrypoint, keys, misspelt, told_in_comments
from tests.deploy.schemas import WANTED, launcher

(AWS,) = documents("aws.yaml")
# Of EC2's types: virtual CPUs and GPUs.
_TYPES = {"g6.2xlarge": (8, 1), "m6i.2xlarge": (8, 0)}
# Names of node types are ours.
_OURS = {("available_node_types", name) for name in AWS["available_node_types"]}
KEYS = [pytest.param(path, id=dotted(path)) for path in keys(AWS) if path not in _OURS]


@functools.cache
def _run_instances():
    return botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances")


def complaints(config):
    """Return what the launcher or EC2 does not take."""
    said = [error.message for error in launcher().iter_errors(config)]
    for node_type in config.get("available_node_types", {}).values():
        instances = {"MinCount": 1, "MaxCount": 1, **node_type.get("node_config", {})}
        report = ParamValidator().validate(instances, _run_instances().input_shape)
        said += [report.generate_report()] if report.has_errors() else []
    return said


def test_rays_launcher_and_ec2_take_it():
    assert complaints(AWS) == []
    validate_config(prepare_config(dict(AWS)))


@pytest.mark.parametrize("path", KEYS)
def test_a_misspelt_field_is_refused(path):
    assert complaints(misspelt(AWS, path))


def test_workers_are_spot_nodes_from_zero_and_the_head_is_neither():
    types = dict(AWS["available_node_types"])
    head = types.pop(AWS["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for worker in types.values():
        assert worker["min_workers"] == 0
        assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert AWS["max_workers"] == sum(worker["max_workers"] for worker in types.values())


def test_nodes_have_what_their_type_has_and_what_the_job_asks_for():
    types = dict(AWS["available_node_types"])
    del types[AWS["head_node_type"]]
    for worker in types.values():
        cpus, gpus = _TYPES[worker["node_config"]["InstanceType"]]
        assert worker["resources"]["CPU"] == cpus
        assert worker["resources"].get("GPU", 0) == gpus
    for name, count in WANTED.items():
        (of_type,) = (worker for worker in types.values() if name in worker["resources"])
        assert of_type["resources"][name] == 1
        assert of_type["max_workers"] >= count


def test_only_who_has_the_token_reaches_ray_and_no_file_has_keys():
    assert "--env=RAY_AUTH_MODE=token" in AWS["docker"]["run_options"]
    assert AWS["file_mounts"] == {"/home/ray/.ray/auth_token": "~/.ray/auth_token"}
    (head,) = (line for line in AWS["head_start_ray_commands"] if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head
    assert "aws_credentials" not in AWS["provider"]
    for node_type in AWS["available_node_types"].values():
        assert node_type["node_config"]["IamInstanceProfile"]["Arn"].endswith("/footfall")
        assert node_type["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


def test_the_command_that_it_tells_is_the_jobs():
    assert " ".join(entrypoint()) in " ".join(told_in_comments("aws.yaml"))
