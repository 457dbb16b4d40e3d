"""KubeRay's files: KubeRay or Kubernetes knows every field, and they mean what a run needs."""

import json

import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import (
    _derive_autoscaling_config_from_ray_cr,
)

from tests.deploy.files import (
    MANIFESTS,
    cluster_spec,
    container,
    documents,
    dotted,
    entrypoint,
    groups,
    keys,
    misspelt,
    pod,
    told_in_comments,
)
from tests.deploy.schemas import MANIFEST, WANTED

KEYS = [
    pytest.param(document, path, id=f"{name}-{document['kind']}-{dotted(path)}")
    for name in MANIFESTS
    for document in documents(name)
    for path in keys(document)
]


@pytest.mark.parametrize("name", MANIFESTS)
def test_every_field_is_known(name):
    for document in documents(name):
        errors = list(MANIFEST[document["kind"]].iter_errors(document))
        assert [error.message for error in errors] == []


@pytest.mark.parametrize(("document", "path"), KEYS)
def test_a_misspelt_field_is_refused(document, path):
    assert not MANIFEST[document["kind"]].is_valid(misspelt(document, path))


def test_a_job_and_a_standing_cluster_have_the_same_nodes():
    assert cluster_spec("rayjob.yaml") == cluster_spec("raycluster.yaml")
    assert documents("rayjob.yaml")[0] == documents("raycluster.yaml")[0]
    assert " ".join(entrypoint()) in " ".join(told_in_comments("raycluster.yaml"))


def test_a_failed_job_is_begun_again_and_no_cluster_outlives_its_job():
    spec = documents("rayjob.yaml")[-1]["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] > 0
    # KubeRay puts the entrypoint into a line for bash, as it is.
    assert not set(spec["entrypoint"]) & set("&|;<>()$`\\\"'*?[]#~!{}\n")


def test_rays_autoscaler_finds_groups_from_zero_that_have_what_the_job_asks_for():
    resource = documents("raycluster.yaml")[-1]
    resource["metadata"]["namespace"] = "default"
    types = _derive_autoscaling_config_from_ray_cr(resource)["available_node_types"]
    head, *workers = types.values()
    assert head["resources"]["CPU"] == 0
    assert [worker["min_workers"] for worker in workers] == [0, 0]
    assert cluster_spec("raycluster.yaml")["enableInTreeAutoscaling"] is True
    for name, count in WANTED.items():
        (of_group,) = (worker for worker in workers if name in worker["resources"])
        assert of_group["resources"][name] == 1
        assert of_group["max_workers"] >= count
    gpus = {name: types[name]["resources"].get("GPU") for name in ("gpu", "cpu")}
    assert gpus == {"gpu": 1, "cpu": None}


def test_no_pod_has_rights_or_keys_and_all_have_the_accounts_role():
    text = json.dumps(cluster_spec("rayjob.yaml"))
    assert "AWS_" not in text
    assert cluster_spec("rayjob.yaml")["authOptions"] == {"mode": "token"}
    account = documents("rayjob.yaml")[0]
    for group in groups(cluster_spec("rayjob.yaml")).values():
        assert pod(group)["serviceAccountName"] == account["metadata"]["name"]
        assert pod(group)["securityContext"]["runAsNonRoot"] is True
        assert container(group)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


def test_workers_bear_spot_nodes_and_the_head_does_not():
    found = groups(cluster_spec("rayjob.yaml"))
    assert "tolerations" not in pod(found.pop("head"))
    for group in found.values():
        assert "spot" in [each["key"] for each in pod(group)["tolerations"]]


def test_all_nodes_have_one_image_and_one_label():
    found = groups(cluster_spec("rayjob.yaml"))
    assert len({container(group)["image"] for group in found.values()}) == 1
    labels = documents("rayjob.yaml")[-1]["metadata"]["labels"]
    assert all(group["template"]["metadata"]["labels"] == labels for group in found.values())
