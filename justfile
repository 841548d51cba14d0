# Every task of this project by name. `./justw` makes the environment and runs the same recipes;
# `just` alone works once .venv is there.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

export PATH := justfile_directory() / ".venv" / "bin" + ":" + env("PATH")

# The store of the local recipes. seekfs itself reads seekfs.toml, and these very variables over it.
endpoint := env("SEEKFS_S3_ENDPOINT", "http://localhost:9000")
bucket := env("SEEKFS_S3_BUCKET", "seekfs")
access_key := env("SEEKFS_S3_ACCESS_KEY_ID", "minioadmin")
secret_key := env("SEEKFS_S3_SECRET_ACCESS_KEY", "minioadmin")

# The recipes that run something keep everything they write under here.
state := justfile_directory() / ".seekfs"

# MinIO's client; Midnight Commander has the same name and another version line.
is_minio_mc := "mc --version 2>/dev/null | grep -q '^mc version '"
mc_alias := "seekfs"
cluster := "seekfs"

# List the recipes
[private]
default:
    @just --justfile "{{justfile()}}" --list

# ---------------------------------------------------------------------------------- develop

# Build the wheel into dist/
[group('develop')]
build:
    python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
    @ls dist/*.whl

# All tests, a few files at a time: with arguments those that they choose, one by one: just test tests/core -k grid
[group('develop')]
test *args:
    python -m pytest {{ if args == "" { "-n auto --maxprocesses 4 --dist loadfile" } else { "" } }} "$@"

# Check style, types, the direction of imports, YAML and the values for the cluster
[group('develop')]
lint:
    ruff check .
    ruff format --check .
    mypy
    mypy -p benchmarks
    mypy deploy
    lint-imports --no-logo
    yamllint --strict .
    python deploy/check.py

# Count which lines and branches of the core its own tests come to: all of them (pyproject.toml, tool.coverage)
[group('develop')]
coverage:
    rm -f .coverage .coverage.*
    python -P -m coverage run -m pytest -q -n auto --maxprocesses 4 --hypothesis-seed=0 tests/core
    python -m coverage combine -q
    python -m coverage report

# Format the code, and fix what can be fixed by itself
[group('develop')]
format:
    ruff check --fix .
    ruff format .

# Measure (benchmarks/README.md says what, and how to read it)
[group('develop')]
bench *args:
    python -m benchmarks.cold_and_warm "$@"

# What hedging does to the tail, and what it costs
[group('develop')]
bench-late *args:
    python -m benchmarks.late_gets "$@"

# The rate at which a store is asked that answers 503 for half a minute: just bench-storm --plot FILE.svg
[group('develop')]
bench-storm *args:
    python -m benchmarks.storm "$@"

# What recording a trace costs a read whose page is in RAM: just bench-warm --before DIR
[group('develop')]
bench-warm *args:
    python -m benchmarks.warm_path "$@"

# Everything at once for MINUTES, 30 by default: kills, faults, storms (docs/RELIABILITY.md): just soak 2
[group('develop')]
soak *args:
    python -m tests.soak "$@"

# Simulate whole nodes in virtual time, 20,000 seeds by default (docs/simulator.md): just sim --start 4711
[group('develop')]
sim *args:
    python -m tests.sim "$@"

# Put each of the wrong edits of tests/planted/bugs into a copy, and show which tests catch it: docs/planted-bugs.md
[group('develop')]
planted-bugs *args:
    python -m tests.planted "$@"

# Draw 200 wrong edits of the core at random, and show which are caught: docs/mutants.md
[group('develop')]
mutants *args:
    python -m tests.planted.mutants "$@"

# Write docs/states.md anew from the tables of the core
[group('develop')]
states:
    python -m tests.support.states > docs/states.md

# Publish, serve, read back and compare, all on this machine, leaving nothing behind
[group('develop')]
demo *args:
    seekfs demo "$@"

# Write requirements.lock anew from pyproject.toml (needs uv)
[group('develop')]
lock: (_need "uv" "docs.astral.sh/uv, Installation")
    uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 --extra dev \
        --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
        --custom-compile-command './justw lock' --output-file requirements.lock

# ---------------------------------------------------------------------------------- local store

# Start a local S3 server in the background: port 9000, minioadmin/minioadmin, data under .seekfs/s3
[group('local store')]
s3-up:
    @python -m seekfs_io.devserver up --directory {{quote(state / "s3")}} --port 9000

# Stop it; its data stays under .seekfs/s3
[group('local store')]
s3-down:
    @python -m seekfs_io.devserver down --directory {{quote(state / "s3")}}

# Tell mc where the store is; without mc only check that the store answers
[group('local store')]
mc-alias:
    @if {{is_minio_mc}}; then \
        mc alias set {{quote(mc_alias)}} {{quote(endpoint)}} {{quote(access_key)}} {{quote(secret_key)}}; \
    else \
        python deploy/bucket.py check; \
    fi

# Make the bucket; it may be there already
[group('local store')]
mc-mb:
    @if {{is_minio_mc}}; then \
        mc mb --ignore-existing {{quote(mc_alias / bucket)}}; \
    else \
        seekfs bucket make; \
    fi

# Upload FILE as the object KEY; what is there already is never changed
[group('local store')]
mc-upload FILE KEY:
    @if {{is_minio_mc}}; then \
        bash deploy/mc-upload {{quote(join(invocation_directory(), FILE))}} {{quote(mc_alias / bucket)}} "$2"; \
    else \
        python deploy/bucket.py upload {{quote(join(invocation_directory(), FILE))}} "$2"; \
    fi

# Upload FILE as PATH of the namespace NS; what is there already is never changed
[group('local store')]
mc-upload-ns FILE PATH NS:
    @if {{is_minio_mc}}; then \
        bash deploy/mc-upload {{quote(join(invocation_directory(), FILE))}} {{quote(mc_alias / bucket)}} \
            "namespaces/$3/files/$2"; \
    else \
        seekfs put "$3" {{quote(join(invocation_directory(), FILE))}} --as "$2"; \
    fi

# Publish a version of NS that holds PATH, which has been uploaded before
[group('local store')]
manifest-gen NS PATH:
    seekfs manifest gen "$1" "$2"

# ---------------------------------------------------------------------------------- daemon

# Run the daemon with the engine sdk: urllib3 and botocore's signatures
[group('daemon')]
run-sdk *args:
    SEEKFS_S3_ENGINE=sdk SEEKFS_CACHE_L2_SEGMENT_PATH={{quote(state / "l2")}} exec seekfs serve "$@"

# Run the daemon with the engine crt: the AWS Common Runtime
[group('daemon')]
run-crt *args:
    SEEKFS_S3_ENGINE=crt SEEKFS_CACHE_L2_SEGMENT_PATH={{quote(state / "l2")}} exec seekfs serve "$@"

# The same with pages on local disk, whatever cache.l2.backend says
[group('daemon')]
run-crt-slab *args:
    SEEKFS_CACHE_L2_BACKEND=segmentstore SEEKFS_S3_ENGINE=crt \
        SEEKFS_CACHE_L2_SEGMENT_PATH={{quote(state / "l2")}} exec seekfs serve "$@"

# Ask the running daemon whether it lives and can serve
[group('daemon')]
ctl-health:
    seekfs health

# What the store itself says of one file's object
[group('daemon')]
smoke-head NS="dev" PATH="warm.bin":
    python deploy/smoke.py head "$@"

# Bring the first page of one file into L2
[group('daemon')]
smoke-stream NS="dev" PATH="warm.bin":
    python deploy/smoke.py stream "$@"

# Read one file every way there is, cold and warm, and compare the bytes
[group('daemon')]
smoke-demo NS="dev" PATH="warm.bin":
    python deploy/smoke.py demo "$@"

# ---------------------------------------------------------------------------------- cluster

# Make a local Kubernetes cluster for MinIO
[group('cluster')]
kind-up: (_need "kind" "kind.sigs.k8s.io, Quick Start")
    kind create cluster --name {{cluster}} --config deploy/kind/cluster.yaml --wait 120s

# Remove it, with all that is in it
[group('cluster')]
kind-down: (_need "kind" "kind.sigs.k8s.io, Quick Start")
    kind delete cluster --name {{cluster}}

# Install MinIO into the cluster; its data goes with its pod
[group('cluster')]
minio-apply: (_minio "--values" "deploy/minio/values.yaml")

# Install MinIO into the cluster, its data on a persistent volume
[group('cluster')]
minio-apply-pv: (_minio "--values" "deploy/minio/values.yaml" "--values" "deploy/minio/values-pv.yaml")

# Make MinIO's port 9000 this machine's port 9000, until interrupted
[group('cluster')]
minio-port-forward: (_need "kubectl" "kubernetes.io, Install Tools")
    kubectl --context kind-{{cluster}} --namespace minio port-forward service/minio 9000:9000

# Remove MinIO from the cluster; a persistent volume claim and its data stay
[group('cluster')]
minio-uninstall: (_need "helm" "helm.sh/docs, Installing Helm")
    helm --kube-context kind-{{cluster}} --namespace minio uninstall minio --wait

_minio *values: (_need "kubectl" "kubernetes.io, Install Tools") (_need "helm" "helm.sh/docs, Installing Helm")
    kubectl --context kind-{{cluster}} apply --filename deploy/minio/namespace.yaml
    helm --kube-context kind-{{cluster}} --namespace minio upgrade --install minio minio \
        --repo https://charts.min.io/ "$@" --wait --timeout 5m

[no-exit-message]
_need program page:
    @command -v "$1" >/dev/null || { echo "this recipe needs '$1', which is not on PATH: see $2" >&2; exit 1; }
