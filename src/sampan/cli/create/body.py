"""From options and arguments to what POST /containers/create takes: the same JSON the docker command sends."""

from __future__ import annotations

from collections.abc import Sequence

from sampan.cli.create.devices import device_requests, devices
from sampan.cli.create.environment import environment, key_values, labels
from sampan.cli.create.mounts import tmpfs, volumes_and_binds
from sampan.cli.create.network import endpoints, extra_hosts, network_mode
from sampan.cli.create.ports import exposed, published
from sampan.cli.create.resources import DEVICE_LISTS, NUMBERS, ulimits
from sampan.cli.create.restart import restart_policy
from sampan.cli.create.security import capabilities, check_mode, security_options
from sampan.cli.failure import CommandFailed
from sampan.cli.flags import Values

TYPE_CHECKING = False  # importing typing costs 3 ms
if TYPE_CHECKING:
    from typing import Any


def create_body(
    values: Values, image: str, command: Sequence[str], console_size: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    """The create request. `console_size`: (height, width). Raises CommandFailed (exit code 125)."""
    if values.on("rm") and values.text("restart") not in ("", "no"):
        raise CommandFailed("conflicting options: cannot specify both --restart and --rm", 125)
    body = _config(values, image, command)
    body["HostConfig"] = _host_config(values, console_size)
    volumes, binds = volumes_and_binds(values.texts("volume"))
    body["Volumes"] = volumes
    body["HostConfig"]["Binds"] = binds or None
    bindings = published(values.texts("publish"))
    ports: dict[str, dict[str, str]] = {port: {} for port in [*bindings, *exposed(values.texts("expose"))]}
    if ports:
        body["ExposedPorts"] = ports
    body["HostConfig"]["PortBindings"] = bindings
    body["NetworkingConfig"] = {"EndpointsConfig": endpoints(values)}
    return body


def _config(values: Values, image: str, command: Sequence[str]) -> dict[str, Any]:
    attached = values.texts("attach")
    if not attached:
        attached = ["stdout", "stderr", *(["stdin"] if values.on("interactive") else [])]
    config: dict[str, Any] = {
        "Hostname": values.text("hostname"),
        "Domainname": values.text("domainname"),
        "User": values.text("user"),
        "AttachStdin": "stdin" in attached,
        "AttachStdout": "stdout" in attached,
        "AttachStderr": "stderr" in attached,
        "Tty": values.on("tty"),
        "OpenStdin": values.on("interactive"),
        "StdinOnce": values.on("interactive") and "stdin" in attached,
        "Env": environment(values.texts("env"), values.texts("env-file")) or None,
        "Cmd": list(command) or None,
        "Image": image,
        "WorkingDir": values.text("workdir"),
        "Entrypoint": _entrypoint(values),
        "OnBuild": None,
        "Labels": labels(values.texts("label"), values.texts("label-file")),
    }
    if values.given("stop-signal"):
        config["StopSignal"] = values.text("stop-signal")
    if values.given("stop-timeout"):
        config["StopTimeout"] = values.number("stop-timeout")
    health = _health(values)
    if health:
        config["Healthcheck"] = health
    return config


def _entrypoint(values: Values) -> list[str] | None:
    """`--entrypoint ""` clears the image's entrypoint."""
    if not values.given("entrypoint"):
        return None
    return [values.text("entrypoint")]


def _health(values: Values) -> dict[str, Any] | None:
    timings = {
        "Interval": "health-interval", "Timeout": "health-timeout", "StartPeriod": "health-start-period",
        "StartInterval": "health-start-interval", "Retries": "health-retries",
    }
    given = {name: values.number(key) for name, key in timings.items() if values.number(key)}
    for name, key in timings.items():
        if values.number(key) < 0:
            raise CommandFailed(f"--{key} cannot be negative", 125)
        if name != "Retries" and 0 < values.number(key) < 1_000_000:
            raise CommandFailed(f"--{key} cannot be less than 1ms", 125)
    test = values.text("health-cmd")
    if values.on("no-healthcheck"):
        if test or given:
            raise CommandFailed("--no-healthcheck conflicts with --health-* options", 125)
        return {"Test": ["NONE"]}
    if test:
        return {"Test": ["CMD-SHELL", test], **given}
    return given or None


def _host_config(values: Values, console_size: tuple[int, int]) -> dict[str, Any]:
    options, masked, readonly = security_options(values.texts("security-opt"))
    swappiness = values.number("memory-swappiness")
    if swappiness != -1 and not 0 <= swappiness <= 100:
        raise CommandFailed(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100", 125)
    host: dict[str, Any] = {
        "ContainerIDFile": values.text("cidfile"),
        "LogConfig": {"Type": values.text("log-driver"), "Config": _log_options(values)},
        "NetworkMode": network_mode(values),
        "RestartPolicy": restart_policy(values.text("restart")),
        "AutoRemove": values.on("rm"),
        "VolumeDriver": values.text("volume-driver"),
        "VolumesFrom": values.texts("volumes-from") or None,
        "ConsoleSize": list(console_size),
        "CapAdd": capabilities(values.texts("cap-add")),
        "CapDrop": capabilities(values.texts("cap-drop")),
        "CgroupnsMode": check_mode("cgroupns", values.text("cgroupns"), ("host", "private"), ()),
        "Dns": values.texts("dns"),
        "DnsOptions": values.texts("dns-option"),
        "DnsSearch": values.texts("dns-search"),
        "ExtraHosts": extra_hosts(values.texts("add-host")),
        "GroupAdd": values.texts("group-add") or None,
        "IpcMode": values.text("ipc"),
        "Cgroup": "",
        "Links": values.texts("link") or None,
        "PidMode": check_mode("pid", values.text("pid"), ("host",)),
        "Privileged": values.on("privileged"),
        "PublishAllPorts": values.on("publish-all"),
        "ReadonlyRootfs": values.on("read-only"),
        "SecurityOpt": options,
        "UTSMode": check_mode("uts", values.text("uts"), ("host",), ()),
        "UsernsMode": check_mode("userns", values.text("userns"), ("host", "private"), ()),
        "Isolation": values.text("isolation"),
        "CgroupParent": values.text("cgroup-parent"),
        "CpusetCpus": values.text("cpuset-cpus"),
        "CpusetMems": values.text("cpuset-mems"),
        "Devices": devices(values.texts("device")),
        "DeviceCgroupRules": values.texts("device-cgroup-rule") or None,
        "DeviceRequests": device_requests(values.texts("device"), values.text("gpus")),
        "MemorySwappiness": swappiness,
        "OomKillDisable": values.on("oom-kill-disable"),
        "Ulimits": ulimits(values.objects("ulimit")),
        "MaskedPaths": masked,
        "ReadonlyPaths": readonly,
    }
    host |= {name: values.number(key) for key, name in NUMBERS.items()}
    host |= {name: values.objects(key) for key, name in DEVICE_LISTS.items()}
    if values.text("timens"):  # ours: Docker has no word for it
        host["TimensMode"] = check_mode("timens", values.text("timens"), ("host", "private"), ())
    return host | _optional(values)


def _log_options(values: Values) -> dict[str, str]:
    options = key_values(values.texts("log-opt"))
    if values.text("log-driver") == "none" and options:
        raise CommandFailed("invalid logging opts for driver none", 125)
    return options


def _optional(values: Values) -> dict[str, Any]:
    """What is only there when it was asked for."""
    host: dict[str, Any] = {}
    if values.texts("annotation"):
        host["Annotations"] = key_values(values.texts("annotation"))
    if values.given("init"):
        host["Init"] = values.on("init")
    if values.objects("mount"):
        host["Mounts"] = values.objects("mount")
    if values.text("runtime"):
        host["Runtime"] = values.text("runtime")
    if values.texts("storage-opt"):
        host["StorageOpt"] = key_values(values.texts("storage-opt"))
    if values.texts("sysctl"):
        host["Sysctls"] = key_values(values.texts("sysctl"))
    if values.texts("tmpfs"):
        host["Tmpfs"] = tmpfs(values.texts("tmpfs"))
    return host
