"""The policies of docs/security.md allow what the code asks of AWS, and nothing else."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import botocore.session
from botocore import xform_name

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("pipeline", "cluster", "jobs")
# As AWS's service authorization reference has them, without versions, tags and ACLs.
ACTIONS = {
    "delete_object": "s3:DeleteObject",
    "delete_objects": "s3:DeleteObject",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "list_objects_v2": "s3:ListBucket",
    "put_object": "s3:PutObject",
    "detect_labels": "rekognition:DetectLabels",
}
# What S3 does with the caller's permission to write with a key, and to read what was.
WITH_A_KEY = {"kms:GenerateDataKey", "kms:Decrypt"}


def statements() -> list[dict[str, Any]]:
    blocks = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "security.md").read_text(), re.S)
    policies = [json.loads(block) for block in blocks]
    assert {policy["Version"] for policy in policies} == {"2012-10-17"}
    return [statement for policy in policies for statement in policy["Statement"]]


def actions_of(statement: dict[str, Any]) -> set[str]:
    action = statement["Action"]
    return {action} if isinstance(action, str) else set(action)


def operations_called() -> set[str]:
    """Return the operations of AWS whose names our code calls, or makes a paginator of."""
    session = botocore.session.get_session()
    known = {
        xform_name(name)
        for service in ("s3", "rekognition", "sts", "kms")
        for name in session.get_service_model(service).operation_names
    }
    called = set()
    for path in [p for folder in FOLDERS for p in ROOT.glob(f"{folder}/*.py")]:
        if path.name.startswith("benchmark"):
            # They speak to a server that they start.
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                called.add(node.attr)
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get_paginator":
                called |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}
    # What boto3 adds to a client of its own: several operations behind one name.
    assert not called & {"upload_file", "upload_fileobj", "download_file", "download_fileobj"}
    return called & known


def test_each_request_that_the_code_makes_is_allowed_and_no_other() -> None:
    needed = {ACTIONS[operation] for operation in operations_called()} | WITH_A_KEY
    assert set().union(*map(actions_of, statements())) == needed


def test_buckets_are_listed_and_objects_read_and_labels_alone_have_no_resource() -> None:
    for statement in statements():
        assert statement["Effect"] == "Allow"
        (service,) = {action.split(":")[0] for action in actions_of(statement)}
        resource, actions = statement["Resource"], actions_of(statement)
        if service == "s3":
            # A bucket's own ARN has no "/", an object's has.
            assert ("/" in resource) == ("s3:ListBucket" not in actions)
            assert resource.startswith("arn:aws:s3:::")
        elif service == "kms":
            assert re.fullmatch(r"arn:aws:kms:[^:]+:\d{12}:key/.+", resource)
        else:
            assert resource == "*"


def test_what_is_not_there_is_told_as_such_where_outputs_are() -> None:
    # Listing under a condition on the prefix would make S3 answer 403 about what is not there.
    written = {s["Resource"].split("/")[0] for s in statements() if "s3:PutObject" in actions_of(s)}
    listed = [s for s in statements() if s["Resource"] in written]
    assert [actions_of(s) for s in listed] == [{"s3:ListBucket"}]
    assert all("Condition" not in s for s in listed)


def test_keys_are_asked_for_where_the_code_asks_for_them() -> None:
    assert "SSEKMSKeyId" in (ROOT / "pipeline" / "store.py").read_text()
