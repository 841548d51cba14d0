"""Checks deploy/: kind's configuration, the namespace, and the values for MinIO's Helm chart.

Helm takes a misspelt key without a word and installs something else. So every key used here must be
one that the chart documents, with a value of its type, and what a recipe or ``seekfs.toml`` relies on
(credentials, bucket, port) must be the same in all of them.

Prints nothing and exits 0, or names every problem and exits 1. Used by ``just lint``.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).resolve().parent

# The part of the chart's documented values (chart `minio` of charts.min.io, its values.yaml) that is of
# use for development: a type, the values allowed, a mapping of more keys, or [what each item is].
CHART: Final[Mapping[str, Any]] = {
    "mode": ("standalone", "distributed"),
    "replicas": int,
    "drivesPerNode": int,
    "pools": int,
    "image": {"repository": str, "tag": str, "pullPolicy": ("Always", "IfNotPresent", "Never")},
    "rootUser": str,
    "rootPassword": str,
    "existingSecret": str,
    "service": {"type": ("ClusterIP", "NodePort", "LoadBalancer"), "port": str, "nodePort": int},
    "consoleService": {"type": ("ClusterIP", "NodePort", "LoadBalancer"), "port": str, "nodePort": int},
    "persistence": {
        "enabled": bool,
        "annotations": {"helm.sh/resource-policy": ("keep",)},
        "existingClaim": str,
        "storageClass": str,
        "accessMode": ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"),
        "size": str,
        "subPath": str,
    },
    "buckets": [
        {
            "name": str,
            "policy": ("none", "download", "upload", "public"),
            "purge": bool,
            "versioning": bool,
            "objectlocking": bool,
        }
    ],
    "users": [{"accessKey": str, "secretKey": str, "existingSecret": str, "policy": str}],
    "resources": {
        "requests": {"memory": str, "cpu": str},
        "limits": {"memory": str, "cpu": str},
    },
    "DeploymentUpdate": {
        "type": ("RollingUpdate", "Recreate"),
        "maxUnavailable": (0, 1),
        "maxSurge": str,
    },
}


def misfits(value: Any, allowed: Any, where: str) -> Iterator[str]:
    """What of ``value`` the chart does not know, and where."""
    if isinstance(allowed, Mapping):
        if not isinstance(value, Mapping):
            yield f"{where}: {value!r} is not a mapping"
            return
        for key, below in value.items():
            if key in allowed:
                yield from misfits(below, allowed[key], f"{where}.{key}")
            else:
                yield f"{where}.{key}: the chart documents no such key; it has {', '.join(allowed)}"
    elif isinstance(allowed, list):
        if not isinstance(value, list):
            yield f"{where}: {value!r} is not a list"
            return
        for index, item in enumerate(value):
            yield from misfits(item, allowed[0], f"{where}[{index}]")
    elif isinstance(allowed, tuple):
        if value not in allowed:
            yield f"{where}: {value!r} is none of {', '.join(map(repr, allowed))}"
    elif type(value) is not allowed:
        # Not isinstance: True is an int, and `replicas: yes` is not one server.
        yield f"{where}: {value!r} is not of type {allowed.__name__}"


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values that Helm works with when it is given both files, in this order."""
    both = dict(below)
    for key, value in above.items():
        is_deep = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = merged(both[key], value) if is_deep else value
    return both


def disagreements(found: Mapping[str, Any], wanted: Mapping[str, Any], where: str) -> Iterator[str]:
    """Where ``found`` has other values than ``wanted``, whose keys are dotted."""
    for dotted, value in wanted.items():
        at: Any = found
        for key in dotted.split("."):
            at = at.get(key) if isinstance(at, Mapping) else None
        if at != value:
            yield f"{where}.{dotted}: {at!r}, where the recipes and seekfs.toml need {value!r}"


def problems(deploy: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Everything that is wrong with the files under ``deploy``, given the parsed ``seekfs.toml``."""
    kind = _only_document(deploy / "kind" / "cluster.yaml")
    yield from disagreements(kind, {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4"}, "cluster")
    if "control-plane" not in [node.get("role") for node in kind.get("nodes", [])]:
        yield "cluster.nodes: none of them has the role control-plane"

    namespace = _only_document(deploy / "minio" / "namespace.yaml")
    yield from disagreements(
        namespace, {"kind": "Namespace", "apiVersion": "v1", "metadata.name": "minio"}, "namespace"
    )

    values = _only_document(deploy / "minio" / "values.yaml")
    overlay = _only_document(deploy / "minio" / "values-pv.yaml")
    yield from misfits(values, CHART, "values")
    yield from misfits(overlay, CHART, "values-pv")

    s3 = config["s3"]
    port = s3["endpoint"].rpartition(":")[2]
    agreed = {
        "mode": "standalone",
        "replicas": 1,
        "rootUser": s3["access_key_id"],
        "rootPassword": s3["secret_access_key"],
        "service.port": port,
    }
    both = merged(values, overlay)
    for name, found, is_persistent in (("values", values, False), ("values-pv", both, True)):
        yield from disagreements(found, agreed | {"persistence.enabled": is_persistent}, name)
        buckets = [bucket.get("name") for bucket in found.get("buckets") or []]
        if buckets != [s3["bucket"]]:
            yield f"{name}.buckets: {buckets}, where seekfs.toml has the bucket {s3['bucket']!r}"
        if any(bucket.get("purge") for bucket in found.get("buckets") or []):
            yield f"{name}.buckets: purge would delete what the bucket holds at every installation"


def _only_document(path: Path) -> dict[str, Any]:
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise SystemExit(f"{path}: not one YAML document that is a mapping")
    return documents[0]


def main() -> int:
    config = tomllib.loads((DEPLOY.parent / "seekfs.toml").read_text(encoding="utf-8"))
    found = list(problems(DEPLOY, config))
    for problem in found:
        print(f"deploy: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
