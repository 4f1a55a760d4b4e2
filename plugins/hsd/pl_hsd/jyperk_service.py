"""Factors from kelvin to jansky from a web service: optional, with time-outs, never needed.

Requests and replies: ``GET <base>/<endpoint>/?uid=…`` → ``{success, error, query, data}``.
"""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from pl_hsd.heuristics.jyperk import Data, Entry
from pl_kernel.errors import PlError

ENDPOINTS = ("asdm", "model-fit", "interpolation")
_LARGEST_REPLY = 20_000_000
_UID = re.compile(r"uid___(A\d{3})_(X[0-9a-fA-F]+)_(X[0-9a-fA-F]+)(?:\.ms)?")


class ServiceFailed(PlError):
    """No server gave a usable answer."""


@attrs.frozen(kw_only=True)
class Service:
    """Where to ask, and how patiently (seconds)."""

    urls: tuple[str, ...]
    timeout_s: float = 60.0
    attempts: int = 3
    pause_s: float = 5.0
    sleep: Callable[[float], None] = time.sleep

    def ask(self, endpoint: str, query: Mapping[str, Any]) -> Mapping[str, Any]:
        """The reply of the first server that answers well, with its address as ``server``.

        Raises:
            ServiceFailed: none did; the sentence says why, server by server.
        """
        reasons = []
        for base in self.urls:
            for attempt in range(self.attempts):
                if attempt:
                    self.sleep(self.pause_s)
                try:
                    return {**self._get(base, endpoint, query), "server": base}
                except (OSError, ValueError) as error:
                    reasons.append(f"{base}: {error}")
                    if isinstance(error, urllib.error.HTTPError) and 400 <= error.code < 500:
                        break  # the server understood, and has no answer
        told = "; ".join(dict.fromkeys(reasons)) or "no address is configured"
        raise ServiceFailed(f"The Jy/K service gave no factors ({told}).")

    def _get(self, base: str, endpoint: str, query: Mapping[str, Any]) -> Mapping[str, Any]:
        if urllib.parse.urlsplit(base).scheme not in ("http", "https"):
            raise ValueError("is no address of a web service")
        address = f"{base.rstrip('/')}/{endpoint}/?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=self.timeout_s) as reply:
            body = reply.read(_LARGEST_REPLY)
        found = json.loads(body)
        if not isinstance(found, dict) or not isinstance(found.get("data"), dict):
            raise ValueError("the reply is none of the Jy/K service")
        if not found.get("success", False):
            raise ValueError(f"the service says: {found.get('error')}")
        return found


@attrs.frozen(kw_only=True)
class Conditions:
    """What endpoints other than asdm want: date (ISO), K, degrees by antenna, (band, baseband, Hz) by real spw."""

    date: str
    temperature_k: float
    elevation_deg: Mapping[str, float]
    windows: Mapping[int, tuple[int, int, float]]


def uid_of(vis: str) -> str:
    """``uid___A002_X1_X2.ms`` → ``uid://A002/X1/X2``.

    Raises:
        ServiceFailed: the name is not made from a uid.
    """
    match = _UID.match(vis)
    if match is None:
        raise ServiceFailed(f"The name {vis} is not made from the uid of an execution block, which the service needs.")
    return f"uid://{match[1]}/{match[2]}/{match[3]}"


def fetch(service: Service, endpoint: str, data: Data, conditions: Conditions) -> tuple[tuple[Entry, ...], str]:
    """Factors of a measurement set and the server that gave them.

    Raises:
        ServiceFailed: no server answered, or an answer lacks what it should hold.
    """
    try:
        if endpoint == "asdm":
            reply = service.ask(endpoint, {"uid": uid_of(data.vis)})
            return tuple(_entries(reply["data"]["factors"], data.vis)), str(reply["server"])
        return _one_by_one(service, endpoint, data, conditions)
    except (KeyError, TypeError, ValueError) as error:
        raise ServiceFailed(f"The Jy/K service's answer for {data.vis} cannot be understood ({error!r}).") from None


def _entries(factors: Iterable[Mapping[str, Any]], vis: str) -> Iterable[Entry]:
    for item in factors:
        value = float(item.get("factor", item.get("Factor")))  # type: ignore[arg-type]
        if not value > 0:
            raise ValueError(f"factor {value}")
        yield Entry(
            vis=str(item.get("MS") or vis), antenna=str(item["Antenna"]), spw=int(item["Spwid"]),
            polarization=str(item["Polarization"]), factor=value,
        )  # fmt: skip


def _one_by_one(
    service: Service, endpoint: str, data: Data, conditions: Conditions
) -> tuple[tuple[Entry, ...], str]:
    found, server = [], ""
    for antenna in data.antennas:
        for spw, (band, baseband, frequency_hz) in conditions.windows.items():
            query: dict[str, Any] = {
                "date": conditions.date, "temperature": conditions.temperature_k, "antenna": antenna,
                "elevation": conditions.elevation_deg[antenna], "band": band, "baseband": baseband,
                "frequency": frequency_hz,
            }  # fmt: skip
            if endpoint == "interpolation":
                query["delta_days"] = 1000
            reply = service.ask(endpoint, query)
            factor = reply["data"]["factor"]
            value = float(factor["mean"] if isinstance(factor, Mapping) else factor)
            if not value > 0:
                raise ValueError(f"factor {value}")
            found.append(Entry(vis=data.vis, antenna=antenna, spw=spw, polarization="I", factor=value))
            server = str(reply["server"])
    return tuple(found), server
