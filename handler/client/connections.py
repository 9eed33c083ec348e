"""httpx2 as both drivers use it: its settings, requests, and what its errors mean."""

from __future__ import annotations

from typing import Any

import httpx2

from handler.client.steps import Ask, Reply


def settings(connections: int | None) -> dict[str, Any]:
    """Arguments for a `httpx2.Client` or `httpx2.AsyncClient`.

    Args:
        connections: that may be open at a time, and are kept for the next request; None: any
            number, and none is kept.
    """
    return {
        # A proxy out of the environment must not see the keys, nor .netrc replace them.
        "trust_env": False,
        "follow_redirects": False,
        "limits": httpx2.Limits(
            max_connections=connections, max_keepalive_connections=connections or 0
        ),
    }


def arguments(ask: Ask) -> dict[str, Any]:
    """Arguments for ``request``."""
    return {
        "method": ask.method,
        "url": ask.url,
        "headers": dict(ask.headers),
        "content": ask.body,
        "timeout": ask.timeout,
    }


def reply_of(response: httpx2.Response) -> Reply:
    """A whole answer."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Reply(response.status_code, headers, response.content)


def failure_of(error: httpx2.TransportError) -> Reply:
    """Why there is no answer. Messages of httpx2 have no headers in them, hence no keys."""
    slow = isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout)
    if slow:
        return Reply(0, failure="the service did not answer in time", timed_out=True)
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return Reply(0, failure=f"no connection to the service ({error or 'timeout'})")
    return Reply(0, failure=f"the connection broke off ({error or type(error).__name__})")
