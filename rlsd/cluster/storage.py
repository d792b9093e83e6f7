"""Claims: those that must be there, and the class that makes the others. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from typing import Any

from rlsd.cluster.facts import CLASSES, VOLUMES, Facts
from rlsd.cluster.quantities import quantity
from rlsd.cluster.wanted import Wanted
from rlsd.finding import Finding

GROUP = "storage"
SHARED = "ReadWriteMany"
_ONE_NODE = {"ReadWriteOnce", "ReadWriteOncePod"}
_DEFAULT = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_SHARES = (
    "*.cephfs.csi.ceph.com", "cephfs.csi.ceph.com", "efs.csi.aws.com", "fsx.csi.aws.com",
    "file.csi.azure.com", "kubernetes.io/azure-file", "azurelustre.csi.azure.com",
    "filestore.csi.storage.gke.io", "lustre.csi.storage.gke.io", "nfs.csi.k8s.io",
    "*/nfs-subdir-external-provisioner", "cluster.local/*nfs*", "nfs.manila.csi.openstack.org",
    "driver.longhorn.io", "csi.weka.io", "beegfs.csi.netapp.com", "spectrumscale.csi.ibm.com",
    "csi.juicefs.com",
)  # fmt: skip
"""Provisioners that give a file system to many nodes at once."""
_DOES_NOT_SHARE = (
    "ebs.csi.aws.com", "kubernetes.io/aws-ebs", "ebs.csi.eks.amazonaws.com",
    "pd.csi.storage.gke.io", "kubernetes.io/gce-pd", "disk.csi.azure.com",
    "kubernetes.io/azure-disk", "*.rbd.csi.ceph.com", "rbd.csi.ceph.com", "rancher.io/local-path",
    "cinder.csi.openstack.org", "dobs.csi.digitalocean.com", "csi.hetzner.cloud",
    "linodebs.csi.linode.com", "topolvm.io", "local.csi.openebs.io",
)  # fmt: skip
"""Provisioners of disks: a file system on one of them is mounted on one node."""


def shares(provisioner: str) -> bool | None:
    """Whether it gives ReadWriteMany with a file system; None where its name does not say."""
    if any(fnmatch(provisioner, x) for x in _SHARES):
        return True
    return False if any(fnmatch(provisioner, x) for x in _DOES_NOT_SHARE) else None


def storage(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Every claim of the release."""
    for claim in wanted.new_claims:
        yield _new(facts, claim)
    for name in sorted(wanted.old_claims):
        yield _old(facts, name)


def on_one_node(facts: Facts, wanted: Wanted) -> set[str]:
    """Claims whose pods must all be on one node."""
    found = {
        claim["metadata"]["name"]
        for claim in wanted.new_claims
        if set(claim["spec"]["accessModes"]) <= _ONE_NODE
    }
    for claim in facts.here("persistentvolumeclaims").items:
        if claim["metadata"]["name"] in wanted.old_claims:
            modes = claim["status"].get("accessModes") or claim["spec"]["accessModes"]
            if set(modes) <= _ONE_NODE:
                found.add(claim["metadata"]["name"])
    return found


def _new(facts: Facts, claim: Mapping[str, Any]) -> Finding:
    spec = claim["spec"]
    [mode], size = spec["accessModes"], spec["resources"]["requests"]["storage"]
    what = f"new claim, {size} {mode}"
    said = facts.at(CLASSES)
    if not said.is_given:
        return _unknown(what, f"may not list storage classes ({said.reason})")
    named = spec.get("storageClassName")
    classes = {x["metadata"]["name"]: x for x in said.items}
    if not named:
        defaults = [name for name, x in classes.items() if _is_default(x)]
        if not defaults:
            return Finding(
                group=GROUP,
                what=what,
                state="no storage class is the default",
                remedy=_there(classes, mode),
            )
        named = defaults[0]
    if named not in classes:
        return _by_hand(facts, what, named, mode, size, classes)
    provisioner = classes[named]["provisioner"]
    state = f"class {named} ({provisioner})"
    if mode != SHARED:
        return Finding(group=GROUP, what=what, state=state)
    match shares(provisioner):
        case True:
            return Finding(group=GROUP, what=what, state=f"{state} gives {mode}")
        case False:
            return Finding(
                group=GROUP,
                what=what,
                state=f"{state} gives no {mode}",
                remedy="set storage.storageClassName to a class of shared files (NFS, CephFS, EFS, "
                "Filestore, …); or, with all pods on one node, storage.accessMode: ReadWriteOnce",
            )
    return _unknown(f"{what}", f"the API does not say whether {state} gives {mode}")


def _unknown(what: str, why: str) -> Finding:
    return Finding(
        group=GROUP,
        what=what,
        state=f"not known: {why}",
        remedy="make such a claim by hand and see whether it is bound",
        is_needed=False,
    )


def _by_hand(
    facts: Facts,
    what: str,
    named: str,
    mode: str,
    size: str,
    classes: Mapping[str, Any],
) -> Finding:
    """A class that is no object serves volumes that somebody made."""
    waiting = [
        v["metadata"]["name"]
        for v in facts.at(VOLUMES).items
        if v["spec"].get("storageClassName") == named
        and v["status"].get("phase") == "Available"
        and mode in v["spec"]["accessModes"]
        and quantity(v["spec"]["capacity"]["storage"]) >= quantity(size)
    ]
    if waiting:
        state = f"{len(waiting)} volumes made by hand for {named} are free ({waiting[0]}, …)"
        return Finding(group=GROUP, what=what, state=state)
    return Finding(
        group=GROUP,
        what=what,
        state=f"there is no storage class {named}",
        remedy=_there(classes, mode),
    )


def _there(classes: Mapping[str, Any], mode: str) -> str:
    """Those that share first."""
    order = sorted(classes, key=lambda name: not shares(classes[name]["provisioner"]))
    if not order:
        of = " of shared files (NFS, CephFS, EFS, Filestore, …)" if mode == SHARED else ""
        return f"install a provisioner{of}"
    return f"set storage.storageClassName to one of: {', '.join(order)}"


def _is_default(of: Mapping[str, Any]) -> bool:
    annotations = of["metadata"].get("annotations") or {}
    return any(annotations.get(x) == "true" for x in _DEFAULT)


def _old(facts: Facts, name: str) -> Finding:
    what = f"claim {name}"
    said = facts.here("persistentvolumeclaims")
    if not said.is_given:
        return _unknown(what, f"may not list claims ({said.reason})")
    claim = next((x for x in said.items if x["metadata"]["name"] == name), None)
    if claim is None:
        there = ", ".join(sorted(x["metadata"]["name"] for x in said.items)) or "none"
        return Finding(
            group=GROUP,
            what=what,
            state=f"not in {facts.namespace}",
            remedy=f"make it, or change storage.existingClaim or inputs (claims there: {there})",
        )
    modes = ", ".join(claim["status"].get("accessModes") or claim["spec"]["accessModes"])
    phase = claim["status"]["phase"]
    if phase == "Bound":
        return Finding(group=GROUP, what=what, state=f"bound, {modes}")
    if phase == "Pending" and _waits(facts, claim):
        return Finding(group=GROUP, what=what, state=f"waits for its first pod, {modes}")
    return Finding(
        group=GROUP,
        what=what,
        state=f"{phase}, {modes}",
        remedy=f"`kubectl -n {facts.namespace} describe pvc {name}` says why",
    )


def _waits(facts: Facts, claim: Mapping[str, Any]) -> bool:
    named = claim["spec"].get("storageClassName")
    return any(
        x["metadata"]["name"] == named and x.get("volumeBindingMode") == "WaitForFirstConsumer"
        for x in facts.at(CLASSES).items
    )
