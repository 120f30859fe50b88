"""Whether a server of the KServe v2 protocol is ready, asked by HTTP. Starts nothing."""

from __future__ import annotations

import http.client
import json

_TIMEOUT_S = 2.0


def _get(host: str, port: int, path: str) -> tuple[int, bytes]:
    """Return status and body; status 0 where nobody answers."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def server_name(host: str, port: int) -> tuple[str, str] | None:
    """Return the name that a server gives itself and its version; None where nothing of this protocol answers."""
    status, body = _get(host, port, "/v2")
    try:
        said = json.loads(body) if status == http.HTTPStatus.OK else None
        return None if said is None else (str(said["name"]), str(said["version"]))
    except (ValueError, KeyError, TypeError):
        return None


def is_ready(host: str, port: int, model: str | None = None) -> bool:
    """Return whether a server answers that it, or a model of it, is ready."""
    path = "/v2/health/ready" if model is None else f"/v2/models/{model}/ready"
    return _get(host, port, path)[0] == http.HTTPStatus.OK
