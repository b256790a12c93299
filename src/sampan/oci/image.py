"""OCI image spec 1.1 (config, manifest, index, descriptor) with Docker's additions to the image config.

Documents from outside are bounded in size before they are parsed, and checked while they are: a member of the wrong
type is an InvalidArgument that says where. Members that are not listed here are dropped, on purpose: an image cannot
carry run options (CVE-2014-6408). An image's id is the hash of the bytes as they came, never of a re-encoded document.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, TypeVar

import msgspec

from sampan.errors import InvalidArgument

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
LAYER_TYPES = frozenset({OCI_LAYER, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, DOCKER_LAYER, DOCKER_LAYER_GZIP})

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"

MAX_DOCUMENT = 4 << 20  # bytes; the registries' own bound for a manifest
MAX_LAYERS = 500  # overlayfs' bound for lower directories
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class _Struct(msgspec.Struct, omit_defaults=True, kw_only=True):
    pass


class Platform(_Struct, kw_only=True):
    architecture: str = ""
    os: str = ""
    os_version: str | None = msgspec.field(name="os.version", default=None)
    os_features: list[str] | None = msgspec.field(name="os.features", default=None)
    variant: str | None = None


class Descriptor(_Struct, kw_only=True, rename="camel"):
    media_type: str = ""
    digest: str
    size: int
    urls: list[str] | None = None
    annotations: dict[str, str] | None = None
    platform: Platform | None = None
    artifact_type: str | None = None


class Manifest(_Struct, kw_only=True, rename="camel", omit_defaults=False):
    schema_version: int = 2
    media_type: str | msgspec.UnsetType = msgspec.UNSET
    config: Descriptor
    layers: list[Descriptor]
    annotations: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET


class Index(_Struct, kw_only=True, rename="camel", omit_defaults=False):
    schema_version: int = 2
    media_type: str | msgspec.UnsetType = msgspec.UNSET
    manifests: list[Descriptor]
    annotations: dict[str, str] | msgspec.UnsetType | None = msgspec.UNSET


class HealthConfig(_Struct, kw_only=True, rename="pascal"):
    """Durations in nanoseconds."""

    test: list[str] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class ContainerConfig(_Struct, kw_only=True, rename="pascal"):
    """What a container made from the image runs by default: the member `config` of the image config."""

    hostname: str | None = None
    domainname: str | None = None
    user: str | None = None
    exposed_ports: dict[str, dict[str, Any] | None] | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool | None = None
    image: str | None = None
    volumes: dict[str, dict[str, Any] | None] | None = None
    working_dir: str | None = None
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None
    shell: list[str] | None = None


class RootFS(_Struct, kw_only=True):
    type: str = "layers"
    diff_ids: list[str] = []


class History(_Struct, kw_only=True):
    created: str | None = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfig(_Struct, kw_only=True):
    """`created` is RFC 3339. `rootfs` is always written, empty or not."""

    created: str | None = None
    author: str | None = None
    architecture: str = ""
    variant: str | None = None
    os: str = ""
    os_version: str | None = msgspec.field(name="os.version", default=None)
    os_features: list[str] | None = msgspec.field(name="os.features", default=None)
    docker_version: str | None = None
    comment: str | None = None
    container: str | None = None
    container_config: ContainerConfig | None = None
    config: ContainerConfig | None = None
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    history: list[History] | None = None


class _Kind(msgspec.Struct, rename="camel"):
    media_type: str | None = None
    config: msgspec.Raw = msgspec.Raw()
    layers: msgspec.Raw = msgspec.Raw()
    manifests: msgspec.Raw = msgspec.Raw()


T = TypeVar("T")


def decode(data: bytes, kind: type[T], what: str) -> T:
    """Parse a bounded JSON document. `what` names it in the error: "image config", "manifest"."""
    if len(data) > MAX_DOCUMENT:
        raise InvalidArgument(f"the {what} of {len(data)} bytes is larger than the {MAX_DOCUMENT} bytes allowed")
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"invalid {what}: {error}") from error
    except RecursionError as error:
        raise InvalidArgument(f"invalid {what}: nested too deeply") from error


def encode(document: msgspec.Struct) -> bytes:
    """The JSON to be hashed and stored: no white space, members in the spec's order, maps sorted."""
    if isinstance(document, ImageConfig):
        fields = msgspec.to_builtins(document, order="deterministic")
        rootfs = document.rootfs
        return msgspec.json.encode({**fields, "rootfs": {"type": rootfs.type, "diff_ids": rootfs.diff_ids}})
    return msgspec.json.encode(document, order="deterministic")


def decode_config(data: bytes) -> ImageConfig:
    """An image config. Raises InvalidArgument for a malformed one or for diff ids that are no digests."""
    config = decode(data, ImageConfig, "image config")
    if config.rootfs.type != "layers":
        raise InvalidArgument(f'invalid image config: rootfs type "{config.rootfs.type}" is not "layers"')
    if len(config.rootfs.diff_ids) > MAX_LAYERS:
        raise InvalidArgument(f"max depth exceeded: the image has more than {MAX_LAYERS} layers")
    for diff_id in config.rootfs.diff_ids:
        digest_hex(diff_id)
    return config


def decode_manifest(data: bytes) -> Manifest:
    """An image manifest. One that is also an index, or claims to be one, is refused (CVE-2021-41190)."""
    kind = decode(data, _Kind, "manifest")
    if _given(kind.manifests) or (kind.media_type is not None and kind.media_type not in MANIFEST_TYPES):
        raise InvalidArgument("invalid manifest: media type and members contradict each other")
    manifest = decode(data, Manifest, "manifest")
    if len(manifest.layers) > MAX_LAYERS:
        raise InvalidArgument(f"max depth exceeded: the image has more than {MAX_LAYERS} layers")
    _check([manifest.config, *manifest.layers])
    return manifest


def decode_index(data: bytes) -> Index:
    """An image index. One that is also a manifest, or claims to be one, is refused (CVE-2021-41190)."""
    kind = decode(data, _Kind, "image index")
    contradicts = _given(kind.config) or _given(kind.layers)
    if contradicts or (kind.media_type is not None and kind.media_type not in INDEX_TYPES):
        raise InvalidArgument("invalid image index: media type and members contradict each other")
    index = decode(data, Index, "image index")
    _check(index.manifests)
    return index


def _given(member: msgspec.Raw) -> bool:
    return bytes(member) not in (b"", b"null")


def _check(descriptors: list[Descriptor]) -> None:
    for descriptor in descriptors:
        digest_hex(descriptor.digest)
        if descriptor.size < 0:
            raise InvalidArgument(f"invalid descriptor: {descriptor.digest} has a negative size")


def manifest_of(config: Descriptor, layers: list[Descriptor]) -> Manifest:
    """The manifest we write ourselves: for the same descriptors always the same bytes."""
    return Manifest(media_type=OCI_MANIFEST, config=config, layers=layers)


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_hex(digest: str) -> str:
    """The 64 hex digits of a `sha256:` digest; they become a file name, so nothing else passes (CVE-2014-9358)."""
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise InvalidArgument(f"invalid checksum digest format: {digest[:100]!r}")
    return match[1]


def chain_ids(diff_ids: list[str]) -> list[str]:
    """The chain id of each layer, bottom first (image-spec config.md, Layer ChainID)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain
