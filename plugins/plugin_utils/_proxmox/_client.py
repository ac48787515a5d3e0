# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One API token's way to a cluster: calls, their failures as errors of ours, and tasks waited for. PRIVATE.

Facts about the server: docs/proxmox.md. A write that timed out or ended in 596 may have happened all the same, so it is
never repeated blindly: the caller looks again.
"""
from __future__ import annotations

import json
import math
import re
import threading
import time
from dataclasses import dataclass

from ansible_collections.hosting.aup.plugins.module_utils._errors import InputError, NodeError
from ansible_collections.hosting.aup.plugins.plugin_utils._proxmox import _answers

try:
    import requests
    from proxmoxer import ProxmoxAPI, ResourceException
    from proxmoxer.backends.https import JsonSerializer
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import NewConnectionError
except ImportError:  # said when it is needed
    ProxmoxAPI = None

TIMEOUT = 60  # seconds; the server itself waits 10 s for a guest's lock and 30 s for another node
WRITES_PER_NODE = 2  # of three workers a node has; each blocks while it waits for a guest's lock
MOST_BYTES = 1 << 26  # of an answer; the rows of 100,000 guests are less
DRIP = 4
READS = 16  # at a time, over all nodes: reads wait for no lock
_TASK_PATIENCE = 300
_FINGERPRINT = re.compile(r"(?:[0-9A-F]{2}:){31}[0-9A-F]{2}")


@dataclass(frozen=True)
class Target:
    """Where the API is and who we are there.

    :ivar fingerprint: SHA-256 of the server's certificate, in place of a CA
    :ivar ca_file: PEM file of the CA; None for the system's
    """

    host: str
    port: int
    user: str
    token_name: str
    token_value: str
    ca_file: str | None = None
    fingerprint: str | None = None
    timeout: int = TIMEOUT


API_ARGUMENTS = {
    "api_host": {"type": "str"},
    "api_port": {"type": "int", "default": 8006},
    "api_user": {"type": "str", "required": True},
    "api_token_id": {"type": "str", "required": True},
    "api_token_secret": {"type": "str", "required": True, "no_log": True},
    "ca_file": {"type": "path"},
    "fingerprint": {"type": "str"},
    "timeout": {"type": "int", "default": TIMEOUT},
}
"""Arguments of actions that speak to a cluster; documented in the fragment `_proxmox_api`."""


def target_of(args, task_vars):
    """The `Target` of a task.

    :param args: its arguments, with `API_ARGUMENTS` among them
    """
    return Target(
        host=args["api_host"] or str(task_vars.get("ansible_host") or task_vars["inventory_hostname"]), port=args["api_port"],
        user=args["api_user"], token_name=args["api_token_id"], token_value=args["api_token_secret"], ca_file=args["ca_file"],
        fingerprint=args["fingerprint"], timeout=args["timeout"])


class ApiError(NodeError):
    """An answer of the API that is a failure; `status` is HTTP's."""

    def __init__(self, *args, status=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.status = status


_CODES = (
    (re.compile(r"does not exist$|unable to find configuration file"), "guest_moved", True),
    (re.compile(r"is locked \("), "guest_locked", True),
    (re.compile(r"can't lock file|got timeout"), "guest_busy", True),
    (re.compile(r"checksum mismatch|detected modified configuration"), "changed_meanwhile", True),
    (re.compile(r"no quorum"), "no_quorum", True),
    (re.compile(r"hostname lookup .* failed"), "node_unknown", True),
    (re.compile(r"already exists"), "exists", False),
    (re.compile(r"no such IPSet|no such security group|no rule at position|no such IP/Network"), "absent", False),
)
_REMEDIES = {
    "guest_locked": "Wait until the task that holds it has ended, then run hosting.aup.reconcile.",
    "guest_busy": "Something else works on this guest; run hosting.aup.reconcile.",
    "no_quorum": "Bring the cluster's quorum back, then run hosting.aup.reconcile.",
    "missing_privilege": "Give the token's role this privilege on this path (docs/proxmox.md).",
    "node_unknown": "The cluster lists a guest on a node that it can't find; look at Datacenter > Cluster.",
    "node_down": "Bring the node back, then run hosting.aup.reconcile.",
}


def _failure(what, status, text, errors):
    """The error of an answer.

    :param what: the call, for people
    :param errors: `{parameter: text}`
    """
    said = " ".join([text.strip(), *("%s: %s" % (key, str(value).strip()) for key, value in sorted((errors or {}).items())
                                     if key != "errors")]).strip()
    said = "".join(c if c.isprintable() else " " for c in said)[:500]
    if status == 401:
        return ApiError("the API refused the token: %s." % said, code="auth", status=status, target="token",
                        remedy="Check user, token id and secret; a token with privilege separation needs roles of its own.")
    code, retryable = "api_error", status >= 500
    if status == 403:
        code, retryable = "missing_privilege", False
    elif status in (595, 596):
        code, retryable = ("node_down" if status == 595 else "unknown_outcome"), True
    else:
        for pattern, name, again in _CODES:
            if pattern.search(said):
                code, retryable = name, again
                break
    return ApiError("%s: %s %s" % (what, status, said or "no reason given"), code=code, status=status, retryable=retryable,
                    remedy=_REMEDIES.get(code, "Look at the task log of the cluster, then run hosting.aup.reconcile."))


class _Bounded(HTTPAdapter if ProxmoxAPI else object):
    """Answers that end: none larger than `MOST_BYTES`, none that drips on for longer than `DRIP` times the time-out."""

    def send(self, request, stream=False, timeout=None, **others):
        response = super().send(request, stream=True, timeout=timeout, **others)
        patience = timeout[1] if isinstance(timeout, tuple) else timeout
        limit, parts, size = time.monotonic() + DRIP * (patience or TIMEOUT), [], 0
        try:
            for part in response.iter_content(65536):
                parts.append(part)
                size += len(part)
                if size > MOST_BYTES:
                    response.close()
                    raise requests.exceptions.ContentDecodingError("more than %d bytes" % MOST_BYTES)
                if time.monotonic() > limit:
                    response.close()
                    raise requests.exceptions.ReadTimeout("it drips")
        except requests.exceptions.SSLError as exc:
            raise requests.exceptions.ChunkedEncodingError("cut") from exc  # the certificate was well, or there were no body
        response._content = b"".join(parts)
        return response


def _finite(text):
    if math.isinf(float(text)):
        raise ValueError("%.40s is too large" % text)
    return float(text)


def _never(text):
    raise ValueError("%.40s is no number" % text)


class _Serializer(JsonSerializer if ProxmoxAPI else object):
    """Reads answers as the server writes them, `{"data": …}`, and nothing else."""

    @staticmethod
    def _parsed(response):
        try:
            found = json.loads(response.content.decode("utf-8"), parse_float=_finite, parse_constant=_never)
        except RecursionError as exc:
            raise ValueError("too deep") from exc
        return found if isinstance(found, dict) else {}

    def loads(self, response):
        found = self._parsed(response)
        if "data" not in found:
            raise ValueError("no data")
        return found["data"]

    def loads_errors(self, response):
        try:
            errors = self._parsed(response).get("errors")
        except ValueError:
            return {}
        return errors if isinstance(errors, dict) else {}


class _Pinned(_Bounded):
    """Connections only to the certificate with this fingerprint."""

    def __init__(self, fingerprint):
        self._pin = fingerprint.replace(":", "").lower()
        super().__init__()

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, assert_fingerprint=self._pin, **kwargs)

    def cert_verify(self, conn, url, verify, cert):
        super().cert_verify(conn, url, False, cert)  # the pin is what is checked


class Client:
    """Calls to one cluster; safe to use from several threads.

    :param say: called with each call's method and path (tests count)
    """

    def __init__(self, target, say=None):
        if ProxmoxAPI is None:
            raise InputError("the Python library proxmoxer is missing on the controller.", target="proxmoxer",
                             remedy="pip install proxmoxer requests")
        if target.fingerprint and not _FINGERPRINT.fullmatch(target.fingerprint):
            raise InputError("%r is not a SHA-256 fingerprint." % target.fingerprint[:120], target="fingerprint",
                             remedy="Write it as 32 upper-case pairs with colons, as the node's certificate page shows it.")
        self.target, self._say = target, say or (lambda method, path: None)
        self._idle: list[ProxmoxAPI] = []  # sessions nobody uses just now: a handshake costs more than a call
        self._writes: dict[str, threading.BoundedSemaphore] = {}
        self._guard = threading.Lock()

    def _session(self):
        """A session that no other thread uses; it belongs back into `_idle`."""
        with self._guard:
            if self._idle:
                return self._idle.pop()
        target = self.target
        api = ProxmoxAPI(target.host, port=target.port, user=target.user, token_name=target.token_name,
                         token_value=target.token_value, verify_ssl=target.ca_file or True, timeout=target.timeout)
        session = api._store["session"]
        # requests lets a bundle named in the environment go before the one named here.
        session.trust_env = False
        session.mount("https://", _Pinned(target.fingerprint) if target.fingerprint else _Bounded())
        api._store["serializer"] = _Serializer()
        return api

    def call(self, method, path, **parameters):
        """One call; `path` as parts or text, parameters with booleans as 0 and 1.

        :returns: the answer's data
        :raises ApiError: any failure
        """
        parts = path if isinstance(path, tuple) else tuple(path.strip("/").split("/"))
        what = "%s /%s" % (method, "/".join(map(str, parts)))
        self._say(method, "/" + "/".join(map(str, parts)))
        values = {key: int(value) if isinstance(value, bool) else value for key, value in parameters.items() if value is not None}
        api = self._session()
        resource = api
        for part in parts:
            resource = resource(str(part).replace("/", "%2F"))
        try:
            return getattr(resource, method.lower())(**values)
        except ResourceException as exc:
            raise _failure(what, exc.status_code, str(exc.content), exc.errors if isinstance(exc.errors, dict) else {}) from exc
        except requests.exceptions.ReadTimeout as exc:
            raise self._unheard(what, "no answer within %d s" % self.target.timeout) from exc
        except requests.exceptions.RequestException as exc:
            raise self._broken(what, exc) from exc
        except ValueError as exc:
            raise ApiError("%s: the answer is not JSON." % what, code="bad_reply", retryable=True,
                           remedy="Check what answers at %s port %d." % (self.target.host, self.target.port)) from exc
        finally:
            with self._guard:
                self._idle.append(api)

    @staticmethod
    def _unheard(what, why):
        return ApiError("%s: %s; it may have been done all the same." % (what, why), code="unknown_outcome", retryable=True,
                        remedy="Run hosting.aup.reconcile: it looks again.")

    def _broken(self, what, exc):
        """The error of a connection that failed: before anything was sent, or after, when a write may be carried out all the same."""
        said = str(exc).lower()
        if isinstance(exc, requests.exceptions.SSLError) and ("certificate" in said or "fingerprint" in said):
            return ApiError("the certificate of %s is not the expected one." % self.target.host, code="certificate", target="certificate",
                            remedy="Give the cluster's CA file or the node's fingerprint; check who answers there.")
        reason = getattr(exc.args[0], "reason", None) if exc.args else None
        if isinstance(exc, (requests.exceptions.ConnectTimeout, requests.exceptions.SSLError)) or isinstance(reason, NewConnectionError):
            return ApiError("the API of %s can't be reached: %s." % (self.target.host, type(exc).__name__), code="unreachable",
                            retryable=True, remedy="Mend the connection, then run hosting.aup.reconcile.")
        return self._unheard(what, "the connection broke before the answer was there (%s)" % type(exc).__name__)

    def get(self, *path, **parameters):
        """A read; one that ended without an answer is tried once more."""
        try:
            return self.call("GET", path, **parameters)
        except ApiError as exc:
            if exc.code != "unknown_outcome":
                raise
        return self.call("GET", path, **parameters)

    def read(self, shape, *path, **parameters):
        """A read whose answer has to be of a shape of `_answers`.

        :raises BadReply: it isn't
        """
        found = self.get(*path, **parameters)
        return shape(found, "GET /%s" % "/".join(map(str, path)))

    def write(self, node, method, *path, **parameters):
        """A change, with at most two of ours at a time on that node.

        :param node: that carries it out; None for the cluster's own files
        """
        with self._guard:
            room = self._writes.setdefault(node or "", threading.BoundedSemaphore(WRITES_PER_NODE))
        with room:
            return self.call(method, path, **parameters)

    def wait(self, node, upid, patience=_TASK_PATIENCE):
        """Wait for a task.

        :raises ApiError: it failed, or didn't end in time; `WARNINGS` are no failure
        """
        if not isinstance(upid, str) or not upid.startswith("UPID:"):
            return
        limit, pause = time.monotonic() + patience, 0.05
        while True:
            state = self.read(_answers.mapping, "nodes", node, "tasks", upid, "status")
            if state.get("status") == "stopped":
                break
            if time.monotonic() > limit:
                raise ApiError("task %s has not ended within %d s." % (upid, patience), code="unknown_outcome", retryable=True,
                               remedy="Look at the task in the cluster, then run hosting.aup.reconcile.")
            time.sleep(pause)
            pause = min(1.0, pause * 1.6)
        end = str(state.get("exitstatus", ""))
        if end != "OK" and not end.startswith("WARNINGS"):
            raise _failure("task %s" % state.get("type", upid), 500, end, {})
