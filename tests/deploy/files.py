"""The files of cluster/deploy, and what they say in common."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "cluster" / "deploy"
MANIFESTS = ("rayjob.yaml", "raycluster.yaml")


def documents(name: str) -> list[dict[str, Any]]:
    """Return the documents of a file, with nothing shared between their branches."""
    return json.loads(json.dumps(list(yaml.safe_load_all((DEPLOY / name).read_text()))))


def cluster_spec(name: str) -> dict[str, Any]:
    spec = documents(name)[-1]["spec"]
    return spec.get("rayClusterSpec", spec)


def groups(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the groups of nodes by name; "head" is the head's."""
    return {
        "head": spec["headGroupSpec"],
        **{group["groupName"]: group for group in spec["workerGroupSpecs"]},
    }


def pod(group: dict[str, Any]) -> dict[str, Any]:
    return group["template"]["spec"]


def container(group: dict[str, Any]) -> dict[str, Any]:
    (one,) = pod(group)["containers"]
    return one


def entrypoint() -> list[str]:
    return shlex.split(documents("rayjob.yaml")[-1]["spec"]["entrypoint"])


def told_in_comments(name: str) -> list[str]:
    """Return the words of a file's comments, lines that go on in the next one joined."""
    lines = [line for line in (DEPLOY / name).read_text().splitlines() if line.startswith("#")]
    return " ".join(line.lstrip("#").replace("\\", "") for line in lines).split()


def keys(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every key of a document."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in inner:
        if isinstance(node, dict):
            yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from keys(value, (*path, key))


def misspelt(document: dict[str, Any], path: tuple[str | int, ...]) -> dict[str, Any]:
    """Return a document with the last letter of one key doubled."""
    copied = json.loads(json.dumps(document))
    node = copied
    for key in path[:-1]:
        node = node[key]
    node[f"{path[-1]}{str(path[-1])[-1]}"] = node.pop(path[-1])
    return copied


def dotted(path: tuple[str | int, ...]) -> str:
    return ".".join(map(str, path))
