"""What KubeRay, Kubernetes and Ray's launcher know, as schemas that refuse all else.

The API server drops a field that it does not know, and at best warns of it: a misspelt limit is none.
So nothing is let through here that is not known.
"""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes.client
import ray.autoscaler
from ray.scripts.scripts import start

from jobs.nodes import command_line, parse_wanted
from tests.deploy.files import entrypoint

_SCALARS = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "object": {},
    "datetime": {"type": "string"},
}
START_OPTIONS = {option[2:] for each in start.params for option in each.opts if len(option) > 2}
# What `footfall nodes` asks for is what the groups of nodes have to offer.
WANTED = parse_wanted(command_line().parse_args(entrypoint()[3:]).want)


def closed(*required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def names(*known: str, value: dict[str, Any] = _SCALARS["str"]) -> dict[str, Any]:
    """Return the schema of a map whose keys are free for Kubernetes, and few for us."""
    return {"type": "object", "propertyNames": {"enum": list(known)}, "additionalProperties": value}


# Maps in which Kubernetes takes any key: those that mean something to whom we deploy on.
_FREE = {
    ("V1ResourceRequirements", "limits"): names(
        "cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"
    ),
    ("V1ResourceRequirements", "requests"): names(
        "cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"
    ),
    ("V1ObjectMeta", "labels"): names("app.kubernetes.io/name"),
    ("V1ObjectMeta", "annotations"): names("eks.amazonaws.com/role-arn"),
}


class _Kubernetes:
    """Schemas of Kubernetes' own models, as its client for Python carries them."""

    def __init__(self) -> None:
        self.definitions: dict[str, Any] = {}

    def of(self, kind: str) -> dict[str, Any]:
        if kind in _SCALARS:
            return _SCALARS[kind]
        if found := re.fullmatch(r"list\[(.+)\]", kind, re.IGNORECASE):
            return {"type": "array", "items": self.of(found[1])}
        if found := re.fullmatch(r"dict[\[(]str, (.+)[\])]", kind, re.IGNORECASE):
            return {"type": "object", "additionalProperties": self.of(found[1])}
        if kind not in self.definitions:
            self.definitions[kind] = {}
            model = getattr(kubernetes.client, kind)
            self.definitions[kind].update(
                closed(
                    **{
                        model.attribute_map[name]: _FREE.get((kind, name)) or self.of(inner)
                        for name, inner in model.openapi_types.items()
                    }
                )
            )
        return {"$ref": f"#/$defs/{kind}"}


_kubernetes = _Kubernetes()
_TEXT, _NUMBER, _FLAG = _SCALARS["str"], _SCALARS["int"], _SCALARS["bool"]
_COUNT = {"type": "integer", "minimum": 0}
_METADATA = _kubernetes.of("V1ObjectMeta")
_START = names(*START_OPTIONS)

# Of ray.io/v1 as KubeRay 1.5.1 has it (ray-operator/config/crd/bases), the fields that we use. Pods,
# which KubeRay leaves to Kubernetes, are there whole.
_CLUSTER = closed(
    "headGroupSpec",
    "rayVersion",
    "workerGroupSpecs",
    rayVersion=_TEXT,
    authOptions=closed("mode", mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=_FLAG,
    autoscalerOptions=closed(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=_COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    headGroupSpec=closed(
        "rayStartParams",
        "template",
        rayStartParams=_START,
        template=_kubernetes.of("V1PodTemplateSpec"),
    ),
    workerGroupSpecs={
        "type": "array",
        "items": closed(
            "groupName",
            "maxReplicas",
            "minReplicas",
            "rayStartParams",
            "template",
            groupName=_TEXT,
            replicas=_COUNT,
            minReplicas=_COUNT,
            maxReplicas=_COUNT,
            rayStartParams=_START,
            template=_kubernetes.of("V1PodTemplateSpec"),
        ),
    },
)
_JOB = closed(
    "entrypoint",
    "rayClusterSpec",
    entrypoint=_TEXT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    shutdownAfterJobFinishes=_FLAG,
    ttlSecondsAfterFinished=_COUNT,
    backoffLimit=_COUNT,
    rayClusterSpec=_CLUSTER,
)


def _kind(api_version: str, kind: str, **more: Any) -> dict[str, Any]:
    return closed(
        "apiVersion",
        "kind",
        "metadata",
        *more,
        apiVersion={"const": api_version},
        kind={"const": kind},
        metadata=_METADATA,
        **more,
    )


_KINDS = {
    "RayJob": _kind("ray.io/v1", "RayJob", spec=_JOB),
    "RayCluster": _kind("ray.io/v1", "RayCluster", spec=_CLUSTER),
    "ServiceAccount": _kind("v1", "ServiceAccount"),
}
MANIFEST = {
    kind: jsonschema.Draft202012Validator(schema | {"$defs": _kubernetes.definitions})
    for kind, schema in _KINDS.items()
}


def launcher() -> jsonschema.Draft7Validator:
    """Return Ray's own schema of a launcher's file, closed where Ray lets anything through."""
    path = Path(ray.autoscaler.__file__).with_name("ray-schema.json")
    schema = json.loads(path.read_text())
    properties = schema["properties"]
    properties["provider"]["additionalProperties"] = False
    properties["file_mounts"]["propertyNames"] = {"const": "/home/ray/.ray/auth_token"}
    (node_type,) = properties["available_node_types"]["patternProperties"].values()
    node_type["properties"]["resources"] = names("CPU", "GPU", *WANTED, value=_COUNT)
    return jsonschema.Draft7Validator(schema)
