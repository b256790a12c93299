"""The networks a container may join, in Docker's schema: bridge, host and none. Others cannot be made yet."""

from __future__ import annotations

import ipaddress
import secrets
import time
from typing import Any, NoReturn

import msgspec

from sampan.engine import filters as match
from sampan.engine import timestamps
from sampan.engine.filters import Filters
from sampan.engine.index import Index
from sampan.engine.options import Options
from sampan.engine.record import Record
from sampan.engine.state import State
from sampan.errors import Forbidden, NotFound, Unsupported

_KIND = "network"
_DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}
_FILTERS = frozenset({"dangling", "driver", "id", "label", "name", "scope", "type"})

Configs = list[dict[str, str]]


class _Network(msgspec.Struct):
    id: str
    created: str


class Networks:
    """Ids are chosen once per data root and kept."""

    def __init__(self, state: State, options: Options, containers: Index) -> None:
        self._options = options
        self._containers = containers
        known = {name: msgspec.json.decode(body, type=_Network) for name, body in state.load(_KIND)}
        for name in _DRIVERS.keys() - known.keys():
            known[name] = _Network(secrets.token_hex(32), timestamps.rfc3339(time.time_ns()))
            state.save(_KIND, name, msgspec.json.encode(known[name]))
        self._networks = known

    def id(self, name: str) -> str:
        """The id of bridge, host or none. Raises NotFound."""
        return self._networks[self.name(name)].id

    def name(self, ref: str) -> str:
        """The network's name from its name, its id or the start of its id. Raises NotFound."""
        if ref in self._networks:
            return ref
        found = [name for name, network in self._networks.items() if ref and network.id.startswith(ref)]
        if len(found) != 1:
            raise NotFound(f"network {ref} not found")
        return found[0]

    def list(self, filters: Filters | None = None) -> list[dict[str, Any]]:
        """`GET /networks`."""
        filters = filters or {}
        match.check(filters, _FILTERS)
        return [self._describe(name) for name in sorted(self._networks) if self._passes(name, filters)]

    def inspect(self, ref: str) -> dict[str, Any]:
        """`GET /networks/REF`, with the containers that run in it. Raises NotFound."""
        name = self.name(ref)
        return self._describe(name) | {"Containers": self._members(name)}

    def remove(self, ref: str) -> NoReturn:
        """The predefined networks stay. Raises Forbidden, NotFound."""
        raise Forbidden(f"{self.name(ref)} is a pre-defined network and cannot be removed")

    def create(self, body: dict[str, Any]) -> NoReturn:
        """Raises Unsupported."""
        raise Unsupported("networks of one's own are not supported yet: use bridge, host or none")

    def connect(self, ref: str) -> NoReturn:
        """Raises Unsupported, NotFound."""
        raise Unsupported(f"connecting containers to {self.name(ref)} after their creation is not supported yet")

    def disconnect(self, ref: str) -> NoReturn:
        """Raises Unsupported, NotFound."""
        raise Unsupported(f"disconnecting containers from {self.name(ref)} is not supported yet")

    def prune(self, filters: Filters | None = None) -> dict[str, Any]:
        """`POST /networks/prune`: there are none but the predefined ones, which stay."""
        match.check(filters or {}, {"label", "label!", "until"})
        return {"NetworksDeleted": None}

    def _passes(self, name: str, filters: Filters) -> bool:
        return (
            (not filters.get("name") or any(text in name for text in filters["name"]))
            and match.prefix(filters, "id", self._networks[name].id)
            and match.exact(filters, "driver", _DRIVERS[name])
            and match.exact(filters, "scope", "local")
            and match.exact(filters, "type", "builtin")
            and match.labels(filters, {})
            and not match.boolean(filters, "dangling", False)
        )

    def _describe(self, name: str) -> dict[str, Any]:
        network = self._networks[name]
        return {
            "Name": name, "Id": network.id, "Created": network.created, "Scope": "local", "Driver": _DRIVERS[name],
            "EnableIPv4": True, "EnableIPv6": False,
            "IPAM": {"Driver": "default", "Options": None, "Config": self._addresses() if name == "bridge" else []},
            "Internal": False, "Attachable": False, "Ingress": False, "ConfigFrom": {"Network": ""},
            "ConfigOnly": False, "Containers": {}, "Options": self._settings() if name == "bridge" else {},
            "Labels": {},
        }

    def _addresses(self) -> Configs:
        bridge = ipaddress.IPv4Interface(self._options.bip)
        return [{"Subnet": str(bridge.network), "Gateway": str(bridge.ip)}]

    def _settings(self) -> dict[str, str]:
        return {
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.enable_ip_masquerade": "true",
            "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
            "com.docker.network.bridge.name": self._options.bridge,
        }

    def _members(self, name: str) -> dict[str, dict[str, str]]:
        running = (it.record for it in self._containers if it.alive and not it.record.internal)
        return {record.id: _member(record) for record in running if _network_of(record) == name}


def _network_of(record: Record) -> str:
    mode = str(record.host_config.get("NetworkMode") or "default")
    return "bridge" if mode == "default" else mode


def _member(record: Record) -> dict[str, str]:
    endpoint = record.endpoint
    return {
        "Name": record.name, "EndpointID": endpoint.endpoint_id if endpoint else "",
        "MacAddress": endpoint.mac if endpoint else "",
        "IPv4Address": f"{endpoint.ip}/{endpoint.prefix}" if endpoint else "", "IPv6Address": "",
    }
