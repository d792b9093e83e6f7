"""Every value set is linted, and gives objects that each supported Kubernetes would take."""

import pytest

from tests.chart.rendering import CHART, VALUE_SETS, helm, rendered, values_of

pytestmark = pytest.mark.chart

VERSIONS = tuple(f"1.{minor}" for minor in range(28, 37))
OWN = {  # custom resources, and what of ours each must hold for its controller
    "JobSet": ("jobset.x-k8s.io/v1alpha2", "replicatedJobs"),
    "LeaderWorkerSet": ("leaderworkerset.x-k8s.io/v1", "leaderWorkerTemplate"),
    "ScaledObject": ("keda.sh/v1alpha1", "triggers"),
    "TriggerAuthentication": ("keda.sh/v1alpha1", "secretTargetRef"),
    "PodMonitor": ("monitoring.coreos.com/v1", "podMetricsEndpoints"),
    "PrometheusRule": ("monitoring.coreos.com/v1", "groups"),
    "RayService": ("ray.io/v1", "rayClusterConfig"),
}


@pytest.mark.parametrize("name", VALUE_SETS)
def test_it_lints(name):
    done = helm("lint", "--strict", str(CHART), "--values", values_of(name))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", [x for x in VALUE_SETS if not x.startswith("control-plane")])
def test_kubernetes_knows_every_field(name, version):
    import kubernetes_validate  # of make setup-chart alone

    for document in rendered(name, version=version):
        if document["kind"] not in OWN:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", VALUE_SETS)
def test_custom_resources_are_of_the_version_and_shape_of_their_controller(name):
    for document in rendered(name):
        if document["kind"] in OWN:
            version, field = OWN[document["kind"]]
            assert (document["apiVersion"], field in document["spec"]) == (version, True)


def test_the_value_sets_have_every_custom_resource():
    kinds = {document["kind"] for name in VALUE_SETS for document in rendered(name)}
    assert set(OWN) <= kinds


def test_names_are_unique_and_short():
    for name in VALUE_SETS:
        names = [(x["kind"], x["metadata"]["name"]) for x in rendered(name)]
        assert len(names) == len(set(names))
        assert max(len(x) for _, x in names) <= 52  # Kubernetes appends up to 11 to a workload's
