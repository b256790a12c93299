"""Image configs, manifests and indexes: decoded strictly, encoded stably."""

from __future__ import annotations

import json

import pytest

from sampan.errors import InvalidArgument
from sampan.oci import image as oci

DIGEST = "sha256:" + "0" * 64
DOCKER_CONFIG = {
    "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05.678Z", "unknown": {"x": [1]},
    "config": {
        "Hostname": "", "User": "", "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/bin"], "Cmd": ["sh"],
        "Volumes": None, "WorkingDir": "/w", "Entrypoint": None, "OnBuild": None, "Labels": {"a": "b"},
        "ArgsEscaped": True,
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**9, "StartPeriod": 1}, "Shell": ["/bin/sh", "-c"],
        "StopSignal": "SIGWINCH", "HostConfig": {"Privileged": True}, "Tty": True,
    },
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
    "history": [{"created": "2024-01-02T03:04:05Z", "created_by": "sh", "empty_layer": True}],
}


def test_docker_config() -> None:
    config = oci.decode_config(json.dumps(DOCKER_CONFIG).encode())
    assert config.config is not None and config.config.healthcheck is not None
    assert config.config.healthcheck.start_period == 1
    assert config.config.on_build is None and config.config.args_escaped is True
    assert config.config.exposed_ports == {"80/tcp": {}}
    assert config.history is not None and config.history[0].empty_layer


def test_what_is_not_known_is_dropped_cve_2014_6408() -> None:
    encoded = json.loads(oci.encode(oci.decode_config(json.dumps(DOCKER_CONFIG).encode())))
    assert "HostConfig" not in encoded["config"] and "unknown" not in encoded
    assert encoded["config"]["StopSignal"] == "SIGWINCH"


def test_encoding_is_stable() -> None:
    config = oci.decode_config(json.dumps(DOCKER_CONFIG).encode())
    assert oci.encode(config) == oci.encode(oci.decode_config(oci.encode(config)))
    assert json.loads(oci.encode(oci.ImageConfig()))["rootfs"] == {"type": "layers", "diff_ids": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rootfs": {"type": "layers", "diff_ids": ["../../etc"]}}, "digest"),
        ({"rootfs": {"type": "windows", "diff_ids": []}}, "rootfs type"),
        ({"rootfs": {"type": "layers", "diff_ids": [DIGEST] * 501}}, "max depth"),
        ({"config": {"Env": "PATH=/bin"}}, r"config\.Env"),
        ({"config": {"Cmd": [1]}}, r"config\.Cmd"),
    ],
)
def test_bad_configs(change: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        oci.decode_config(json.dumps(DOCKER_CONFIG | change).encode())


def test_bounds() -> None:
    with pytest.raises(InvalidArgument, match="larger"):
        oci.decode_config(b" " * (oci.MAX_DOCUMENT + 1))
    for deep in (b"[" * 500_000, b'{"config":' * 200_000, b'{"x":' + b"[" * 500_000):
        with pytest.raises(InvalidArgument, match="invalid"):
            oci.decode_config(deep)


def _manifest(**more: object) -> bytes:
    blob = {"mediaType": oci.OCI_CONFIG, "digest": DIGEST, "size": 1}
    return json.dumps({"schemaVersion": 2, "config": blob, "layers": [blob], **more}).encode()


def test_manifest() -> None:
    assert oci.decode_manifest(_manifest()).layers[0].digest == DIGEST
    assert oci.decode_manifest(_manifest(mediaType=oci.DOCKER_MANIFEST)).media_type == oci.DOCKER_MANIFEST


@pytest.mark.parametrize(
    "data",
    [
        _manifest(manifests=[]), _manifest(mediaType=oci.OCI_INDEX), _manifest(mediaType="text/plain"),
        _manifest(layers=[{"digest": "sha256:x", "size": 1}]), _manifest(layers=[{"digest": DIGEST, "size": -1}]),
        _manifest(layers=None), b"{}", b"[]", b"",
    ],
)
def test_bad_manifests_cve_2021_41190_cve_2021_21285(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        oci.decode_manifest(data)


@pytest.mark.parametrize("data", [_manifest(), _manifest(manifests=[]), b'{"manifests":[{"digest":"x","size":1}]}'])
def test_bad_indexes_cve_2021_41190(data: bytes) -> None:
    with pytest.raises(InvalidArgument):
        oci.decode_index(data)


def test_chain_ids() -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert oci.chain_ids([]) == []
    assert oci.chain_ids([one, two]) == [one, oci.digest_of(f"{one} {two}".encode())]
