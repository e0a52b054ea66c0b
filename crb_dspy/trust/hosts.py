"""Where texts go: this machine, its private network, or a host outside, which is said once."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from collections.abc import Iterable
from urllib.parse import urlsplit

from crb_dspy.trust import consent

# Set to "off", it silences the notice.
SETTING = "CRB_DSPY_NOTICE"
# Providers of LiteLLM that are servers on this machine unless an address is given; no model.
_HERE = ("none", "local", "ollama", "ollama_chat", "llamafile", "lm_studio", "hosted_vllm", "vllm")


def is_here(address: str) -> bool:
    """Say whether an address is of this machine, without asking the network."""
    host = _host(address)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def outside(model: str, address: str | None) -> str:
    """Return the host outside this machine and its private network that is asked, "" if none."""
    provider = model.partition("/")[0]
    address = address or _from_environment(provider)
    if not address:
        return "" if provider in _HERE else f"the servers of {provider}"
    return "" if is_here(address) or _is_private(_host(address)) else _host(address)


def tell(endpoints: Iterable[tuple[str, str | None]]) -> None:
    """Say on stderr, once a host, that patients' text is about to leave, unless it is silenced."""
    if os.environ.get(SETTING, "").lower() == "off":
        return
    for host in dict.fromkeys(outside(*endpoint) for endpoint in endpoints):
        if host and not consent.agreed("notice", host):
            sys.stderr.write(
                f"notice: reports, and quotes from them, are about to be sent to {host}, outside "
                f"this machine and its network; told once a host ({SETTING}=off: never); see "
                "SECURITY.md\n"
            )
            consent.agree("notice", host)


def spare_proxy(address: str) -> None:
    """Let what is asked on this machine go to no proxy of the environment."""
    if is_here(address):
        for name in ("NO_PROXY", "no_proxy"):
            listed = [part for part in os.environ.get(name, "").split(",") if part]
            if "*" not in listed and (host := _host(address)) not in listed:
                os.environ[name] = ",".join([*listed, host])


def _host(address: str) -> str:
    try:
        return urlsplit(address if "://" in address else f"//{address}").hostname or ""
    except ValueError:
        return ""


def _from_environment(provider: str) -> str | None:
    names = (f"{provider.upper()}_{end}" for end in ("API_BASE", "BASE_URL"))
    return next(filter(None, map(os.environ.get, names)), None)


def _is_private(host: str) -> bool:
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
    # A name that only a proxy knows is outside.
    except (OSError, UnicodeError):
        return False
    addresses = [ipaddress.ip_address(text.partition("%")[0]) for text in found]
    return all(a.is_private or a.is_loopback or a.is_link_local for a in addresses)
