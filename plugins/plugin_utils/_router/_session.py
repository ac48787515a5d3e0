# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH to a router: strict host keys, every answer attributed to its line, errors told apart. PRIVATE.

`Cli` is a router's command line, opened with netmiko and read line by line; `Shell` runs single commands of a
Linux router with their input on stdin, so that no value ever passes a shell. Neither writes a session log.
"""
from __future__ import annotations

import contextlib
import logging
import os
import re
import socket
import time
from dataclasses import dataclass, field

from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\x07")
_BUSY = re.compile(r"locked by|VTY configuration is locked|device is busy", re.IGNORECASE)
_MOST = 64 * 1024 * 1024  # bytes of one answer


PROMPT = r"[\w.-]{0,48}(?:\([^()\r\n]{1,60}\))?[#>] ?"  # netmiko cuts long names; modes stand in brackets


class RouterError(NodeError):
    """A router could not be reached, read or changed; `code` tells which."""


@dataclass(frozen=True)
class Target:
    """How to reach a router.

    :ivar known_hosts: the managed file of host keys; a key not in it is refused
    :ivar timeout: seconds for one answer, and for logging in
    """

    name: str
    host: str
    port: int = 22
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    key_file: str | None = None
    known_hosts: str = "~/.ssh/known_hosts"
    timeout: int = 60
    become: bool = False

    def error(self, code, message, remedy, retryable=False):
        """A RouterError about this router."""
        return RouterError("router %s: %s" % (self.name, message), code=code, target=self.name, remedy=remedy,
                           retryable=retryable)


def _known_hosts(target):
    path = os.path.expanduser(target.known_hosts)
    if not os.path.isfile(path):
        raise target.error("known_hosts", "the file of known host keys %s does not exist." % path,
                           "Put the router's host key into it (ssh-keyscan, then compare with the router's console).")
    return path


_PRIVILEGED = frozenset(("cisco_ios", "cisco_xe", "arista_eos"))
"""Device types whose `>` means that nothing may be changed."""


def _libraries(target):
    try:
        import netmiko
        import paramiko
    except ImportError as exc:
        raise target.error("missing_library", "the Python library %s is not installed on the controller." % exc.name,
                           "Install netmiko 4.") from exc
    return netmiko, paramiko


def _failed(target, exc):
    """What went wrong while connecting, told apart by what the libraries say; never by guessing from time."""
    text = str(exc)
    chain = " ".join(str(part) for part in (exc, exc.__cause__, exc.__context__) if part is not None)
    kind = type(exc).__name__
    where = "%s port %d" % (target.host, target.port)
    if "does not match" in chain or kind == "BadHostKeyException":
        return target.error("host_key_changed", "the host key of %s is not the one on record." % where,
                            "Somebody may be in between. Compare with the router's console before changing known_hosts.")
    if "not found in known_hosts" in chain:
        return target.error("host_key_unknown", "the host key of %s is not in %s." % (where, target.known_hosts),
                            "Compare it with the router's console, then add it (port other than 22: [host]:port).")
    if "uthentication" in kind or "uthentication" in text:
        return target.error("auth", "%s refused user %s." % (where, target.user),
                            "Check ansible_user and its key or password.")
    if "banner" in chain or "EOFError" in kind or "Channel" in kind or "channel" in chain or "reset by peer" in chain:
        return target.error("session_limit", "%s takes no further session." % where,
                            "Too many sessions, or it is restarting. Try again.", retryable=True)
    if "refused" in chain or "Unable to connect" in chain:
        return target.error("unreachable", "nothing accepts connections at %s." % where,
                            "Check address and port, and that it is up.", retryable=True)
    return target.error("unreachable", "no answer from %s within %d s." % (where, target.timeout),
                        "Check that it is up and reachable.", retryable=True)


class Cli:
    """A router's command line.

    :param device_type: netmiko's name of the platform
    :param prompt: pattern of what follows the name in the prompt
    :param login: `login(netmiko) -> class` where netmiko's own way in is not the one wanted
    """

    def __init__(self, target, device_type, prompt=PROMPT, login=None):
        netmiko, paramiko = _libraries(target)
        self.target = target
        arguments = {
            "device_type": device_type, "host": target.host, "port": target.port, "username": target.user,
            "password": target.password or "", "use_keys": target.key_file is not None, "key_file": target.key_file,
            "allow_agent": False, "ssh_strict": True, "system_host_keys": False, "alt_host_keys": True,
            "alt_key_file": _known_hosts(target), "conn_timeout": min(10, target.timeout), "banner_timeout": target.timeout,
            "auth_timeout": target.timeout, "read_timeout_override": target.timeout, "keepalive": 10, "session_log": None,
        }
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # or it prints tracebacks of refused sessions
        try:
            self._device = (login(netmiko) if login else netmiko.ConnectHandler)(**arguments)
        except (netmiko.NetmikoTimeoutException, netmiko.NetmikoAuthenticationException) as exc:
            raise _failed(target, exc) from exc
        except netmiko.ReadTimeout as exc:
            raise self.timeout("logging in") from exc
        except (paramiko.SSHException, EOFError, OSError, ValueError) as exc:
            raise _failed(target, exc) from exc
        self._channel = self._device.remote_conn
        name = re.escape(self._device.base_prompt)
        self._prompt = re.compile(r"(?:\A|[\r\n])%s%s\Z" % (name, prompt))
        self._privileged = device_type in _PRIVILEGED

    def timeout(self, what):
        """The error for an answer that does not come."""
        return self.target.error("timeout", "no end of the answer to %r within %d s." % (what, self.target.timeout),
                                 "The router is slow or busy; raise aup_router_timeout, then run again.", retryable=True)

    def _closed(self, what):
        return self.target.error("closed", "the connection ended at %r." % what,
                                 "Run again: it is read anew, and only what is missing is done.", retryable=True)

    def ask(self, line, question=None):
        """Send one line, already passed by the gate; what the router said to it.

        :param question: compiled pattern of a question that ends the answer as the prompt does
        :raises RouterError: `timeout`, `closed`, `not_privileged`, or `bad_reply` when it did not repeat the line
        """
        deadline = time.monotonic() + self.target.timeout
        parts, size = [], 0
        try:
            self._channel.settimeout(self.target.timeout)
            self._channel.sendall((line + "\n").encode("ascii"))
            tail = ""
            while True:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self.timeout(line)
                self._channel.settimeout(left)
                data = self._channel.recv(65536)
                if not data:
                    raise self._closed(line)
                text = data.decode("utf-8", "replace")
                parts.append(text)
                size += len(text)
                if size > _MOST:
                    raise self.target.error("bad_reply", "the answer to %r does not end." % line, "Check the router.")
                tail = (tail + text)[-300:]
                shown = _ANSI.sub("", tail)
                if self._prompt.search(shown) and shown.rstrip().endswith(">") and self._privileged:
                    raise self.target.error("not_privileged", "user %s lands at %r, where nothing can be changed."
                                            % (self.target.user, shown.split()[-1]), "Give the user the privilege to begin at #; enable is never sent.")
                if self._prompt.search(shown) or (question and question.search(shown)):
                    break
        except TimeoutError as exc:
            raise self.timeout(line) from exc
        except (OSError, EOFError) as exc:
            raise self._closed(line) from exc
        said = _ANSI.sub("", "".join(parts)).replace("\r\n", "\n").replace("\r", "\n")
        said = said[:said.rfind("\n") + 1] if "\n" in said else ""
        echo, _newline, answer = said.partition("\n")
        if echo.strip() != line:
            raise self.target.error("bad_reply", "it answered something else than was asked with %r." % line,
                                    "Another program may share this session, or the terminal wraps lines.")
        if _BUSY.search(answer):
            raise self.target.error("busy", "its configuration is locked by somebody else.", "Try again.", retryable=True)
        return answer

    def close(self):
        """Leave; never raises, as what had to be known is known by now."""
        with contextlib.suppress(OSError, EOFError, ValueError):
            self._channel.close()
        with contextlib.suppress(OSError, EOFError, ValueError):
            self._device.remote_conn_pre.close()


class Shell:
    """Commands on a Linux router: fixed argument lists, values on stdin only, true exit statuses."""

    def __init__(self, target):
        _netmiko, paramiko = _libraries(target)
        self.target = target
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)
        self._client = client = paramiko.SSHClient()
        client.load_host_keys(_known_hosts(target))
        client.set_missing_host_key_policy(paramiko.RejectPolicy())
        try:
            client.connect(
                target.host, target.port, target.user, target.password, key_filename=target.key_file, allow_agent=False,
                look_for_keys=False, timeout=min(10, target.timeout), banner_timeout=target.timeout,
                auth_timeout=target.timeout)
        except (paramiko.SSHException, EOFError, OSError) as exc:
            client.close()
            raise _failed(target, exc) from exc
        client.get_transport().set_keepalive(10)
        # Each command is a few small packets; without this each waits for the acknowledgement of the one before.
        client.get_transport().sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self, command, stdin=""):
        """(exit status, stdout, stderr) of one of the platform's fixed commands.

        :raises RouterError: `timeout`, `closed`, `session_limit`
        """
        _netmiko, paramiko = _libraries(self.target)
        try:
            channel = self._client.get_transport().open_session(timeout=self.target.timeout)
            channel.settimeout(self.target.timeout)
            channel.exec_command(command)
            channel.sendall(stdin.encode("ascii"))
            channel.shutdown_write()
            out = channel.makefile("rb").read(_MOST).decode("utf-8", "replace")
            err = channel.makefile_stderr("rb").read(_MOST).decode("utf-8", "replace")
            status = channel.recv_exit_status()
        except TimeoutError as exc:
            raise self.target.error("timeout", "no end of %r within %d s." % (command, self.target.timeout),
                                    "The router is slow or busy; run again.", retryable=True) from exc
        except paramiko.ChannelException as exc:
            raise _failed(self.target, exc) from exc
        except (paramiko.SSHException, OSError, EOFError, AttributeError) as exc:
            raise self.target.error("closed", "the connection ended at %r." % command,
                                    "Run again: it is read anew, and only what is missing is done.", retryable=True) from exc
        if status < 0:
            raise self.target.error("closed", "the connection ended at %r." % command, "Run again.", retryable=True)
        return status, out, err

    def close(self):
        """Leave."""
        self._client.close()
