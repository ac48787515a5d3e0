# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests of a KVM host through libvirt, and the few changes a hold needs. PRIVATE to the collection.

A thin edge: it decides nothing. Each setter does nothing if the wanted state is there, and reads
the guest back after changing it. Guests are addressed by UUID only; names are data for messages.
"""
from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from xml.etree import ElementTree

from ansible_collections.hosting.aup.plugins.module_utils._backends import _host_addresses
from ansible_collections.hosting.aup.plugins.module_utils._backends._domain_xml import attribute as _attribute
from ansible_collections.hosting.aup.plugins.module_utils._backends._domain_xml import link as _link
from ansible_collections.hosting.aup.plugins.module_utils._backends._domain_xml import nic as _nic
from ansible_collections.hosting.aup.plugins.module_utils._errors import NodeError

try:
    import libvirt
except ImportError:
    libvirt = None

URI = "qemu:///system"
CONNECT_SECONDS = 15
KEEPALIVE_SECONDS = 5  # a daemon that answers no ping for 4 of these is given up, also amid a call
POLL_SECONDS = 0.2
BULK = 1000  # libvirt takes at most 4,096 domains in one such call
AT_ONCE = 5  # requests of one client that libvirtd works on side by side, unless configured otherwise

# libvirt's public numbers (virDomainState and its reasons): the same in every release.
_STATES = {0: "running", 1: "running", 2: "running", 3: "paused", 4: "shutting_down", 5: "off", 6: "crashed",
           7: "pmsuspended"}
_REASONS = {
    "running": {1: "booted", 2: "migrated", 3: "restored", 4: "from_snapshot", 5: "unpaused",
                6: "migration_canceled", 7: "save_canceled", 8: "wakeup", 9: "crashed", 10: "postcopy",
                11: "postcopy_failed"},
    "paused": {1: "user", 2: "migration", 3: "saving", 4: "dumping", 5: "ioerror", 6: "watchdog",
               7: "from_snapshot", 8: "shutting_down", 9: "snapshot", 10: "crashed", 11: "starting_up",
               12: "postcopy", 13: "postcopy_failed"},
    "shutting_down": {1: "user"},
    "off": {1: "shutdown", 2: "destroyed", 3: "crashed", 4: "migrated", 5: "saved", 6: "failed",
            7: "from_snapshot", 8: "daemon"},
    "crashed": {1: "panicked"},
}

IOTUNE = tuple("%s_%s%s" % (way, unit, suffix) for way in ("total", "read", "write") for unit in ("bytes_sec", "iops_sec")
               for suffix in ("", "_max", "_max_length"))
_NO_QUOTA = 17592186044415  # libvirt's largest: what it says of a group without a limit

_EVENTS = []  # the thread that runs libvirt's event loop in this process


class Host:
    """A connection to one libvirt, from `connect`."""

    def __init__(self, connection, uri):
        self.connection = connection
        self.uri = uri
        self._remembered = None

    def alive(self):
        """Whether the connection still stands, as far as this side knows; asks nobody."""
        try:
            return self.connection.isAlive() == 1
        except libvirt.libvirtError:
            return False

    def domain(self, uuid):
        """The guest with this UUID.

        :raises libvirt.libvirtError: there is none
        """
        if self._remembered is None:
            return self.connection.lookupByUUIDString(uuid)
        if uuid not in self._remembered:
            self._remembered[uuid] = self.connection.lookupByUUIDString(uuid)
        return self._remembered[uuid]

    @contextmanager
    def remembering(self):
        """Look each guest up only once meanwhile: for many steps on the same ones."""
        self._remembered = {}
        try:
            yield
        finally:
            self._remembered = None

    def close(self):
        """Close the connection; one that is already broken is no error."""
        try:
            self.connection.close()
        except libvirt.libvirtError:
            return


def connect(uri=URI, connection_factory=None):
    """Connect to libvirt without ever prompting or printing.

    :param connection_factory: `factory(uri) -> connection`; libvirt's own if None
    :returns: Host
    :raises NodeError: code `libvirt_missing` (no Python binding), `libvirt_refused` (not allowed)
        or `libvirt_down` (retryable)
    """
    if libvirt is None:
        raise NodeError(
            "the Python binding of libvirt is not installed.", code="libvirt_missing", target=uri,
            remedy="Install the distribution's package python3-libvirt on the node; its own Python "
                   "has to run the module (ansible_python_interpreter).")
    # libvirt prints every error to stderr unless told otherwise; ours reach the operator once, as results.
    libvirt.registerErrorHandler(_ignore_error, None)
    if connection_factory is None:
        connection_factory = _open
    try:
        return Host(connection_factory(uri), uri)
    except libvirt.libvirtError as exc:
        if exc.get_error_code() in (libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_AUTH_CANCELLED,
                                    libvirt.VIR_ERR_AUTH_UNAVAILABLE):
            raise NodeError("libvirt at %s does not let us in: %s." % (uri, exc.get_error_message()),
                            code="libvirt_refused", target=uri, remedy="Run the task as root (become: true).")
        raise _down(uri, exc)


def _open(uri):
    """Open a connection that can't hang: a daemon that is stopped or deadlocked still accepts connections.

    :raises libvirt.libvirtError: it is not there, or refuses
    :raises NodeError: code `libvirt_down`: it doesn't answer
    """
    _run_events()
    outcome = []
    opening = threading.Thread(target=_open_into, args=(uri, outcome), daemon=True)
    opening.start()
    opening.join(CONNECT_SECONDS)
    if not outcome:
        raise _no_answer(uri, "nothing within %d s" % CONNECT_SECONDS)
    if isinstance(outcome[0], libvirt.libvirtError):
        raise outcome[0]
    return outcome[0]


def _open_into(uri, outcome):
    try:
        connection = libvirt.openAuth(uri, [[], None, None], 0)
        if not uri.startswith("test:"):
            connection.setKeepAlive(KEEPALIVE_SECONDS, 3)
        outcome.append(connection)
    except libvirt.libvirtError as exc:
        outcome.append(exc)


def _run_events():
    """Start the thread that keepalive needs, once per process."""
    if not _EVENTS:
        libvirt.virEventRegisterDefaultImpl()
        _EVENTS.append(threading.Thread(target=_handle_events, daemon=True))
        _EVENTS[0].start()


def _handle_events():
    while True:
        libvirt.virEventRunDefaultImpl()


def _ignore_error(_context, _error):
    """libvirt's error callback: the same error is raised as an exception."""


def _down(uri, exc):
    return _no_answer(uri, exc.get_error_message())


def _no_answer(uri, said):
    return NodeError(
        "libvirt at %s does not answer: %s." % (uri, said), code="libvirt_down",
        target=uri, retryable=True,
        remedy="Start libvirtd (or virtqemud) on the node, or restart it if it hangs (guests run on), "
               "then run `reconcile`. The packet filter does not depend on it.",
    )


def listen(host, happened):
    """Call `happened()`, from another thread, whenever a guest started, resumed, was defined or got a device.

    :raises NodeError: code `libvirt_down`
    """
    wanted = (libvirt.VIR_DOMAIN_EVENT_DEFINED, libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_RESUMED,
              libvirt.VIR_DOMAIN_EVENT_CRASHED)

    def lifecycle(_connection, _domain, event, _detail, _opaque):
        if event in wanted:
            happened()

    def device(_connection, _domain, _alias, _opaque):
        happened()

    try:
        host.connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle, None)
        host.connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, device, None)
    except libvirt.libvirtError as exc:
        raise _down(host.uri, exc)


# -- observing ------------------------------------------------------------------------------


def guests(host, only=None):
    """All guests of the host, running or not; of those `only` with these UUIDs, if given.

    One list call each for guests, persistent and autostarted ones, their states in bulk, then the
    live XML of each. `link_config` is None for guests that run (see `detail`). A guest that
    disappears meanwhile is left out.

    :returns: list of `{"name", "uuid", "state", "reason", "id" or None, "persistent", "autostart", "nics"}`,
        nics of `{"mac", "kind": "bridge|routed|unsupported:<what>", "bridge", "device", "link_live",
        "link_config", "link_settable", "gap"}`
    :raises NodeError: code `libvirt_down`
    """
    try:
        domains = _with_state(host.connection, only)
        persistent = _uuids(host, libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT)
        autostart = _uuids(host, libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART)
    except libvirt.libvirtError as exc:
        raise _down(host.uri, exc)
    found = []
    for guest in _describe_all(host, domains):
        guest["persistent"] = guest["uuid"] in persistent
        guest["autostart"] = guest["uuid"] in autostart
        found.append(guest)
    return found


def detail(host, uuid):
    """One guest with the state of its links in the configuration as well, NICs only configured included.

    :returns: like one of `guests`, with `scheduler` and `disks` (see `_limits`); None if there is no such guest
    :raises NodeError: code `libvirt_down` or `libvirt`
    """
    try:
        domain = host.connection.lookupByUUIDString(uuid)
        guest, running = _describe(domain, domain.state())
        guest["persistent"] = bool(domain.isPersistent())
        guest["autostart"] = bool(guest["persistent"] and domain.autostart())
        live = ElementTree.fromstring(domain.XMLDesc(0)) if running else None
        config = None
        if guest["persistent"]:
            text = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
            if running:
                _add_configured(guest, text)
            config = ElementTree.fromstring(text)
        _add_tuning(guest, live, config)
        return guest
    except libvirt.libvirtError as exc:
        if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise _failed(host, exc, uuid, None, "observe")


def _describe_all(host, domains):
    """The domains as `guests` describes them, in order, those that disappeared meanwhile left out.

    Most of the time of a full host goes into waiting for each XML, so libvirtd is kept busy with several.
    """
    def describe(part):
        found = []
        for domain, state in part:
            try:
                found.append(_describe(domain, state)[0])
            except libvirt.libvirtError as exc:
                if exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                    continue
                raise _failed(host, exc, domain.UUIDString(), None, "observe")
        return found

    if len(domains) <= 20:  # threads would cost more than they save
        return describe(domains)
    size = -(-len(domains) // AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        parts = pool.map(describe, [domains[first:first + size] for first in range(0, len(domains), size)])
        return [guest for part in parts for guest in part]


def _with_state(connection, only=None):
    """Every domain with its `[state, reason]`: asking each one costs more than reading its XML."""
    domains = [domain for domain in connection.listAllDomains(0) if only is None or domain.UUIDString() in only]
    found = []
    for first in range(0, len(domains), BULK):
        for domain, stats in connection.domainListGetStats(
                domains[first:first + BULK], libvirt.VIR_DOMAIN_STATS_STATE, 0):
            found.append((domain, [stats.get("state.state", -1), stats.get("state.reason", 0)]))
    return found


def _uuids(host, flag):
    return {domain.UUIDString() for domain in host.connection.listAllDomains(flag)}


def _state_words(numbers):
    number, reason = numbers
    state = _STATES.get(number, "unknown")
    return state, _REASONS.get(state, {}).get(reason, "unknown")


def _describe(domain, numbers):
    """A guest without persistent and autostart, and whether its XML is that of a running one."""
    state, reason = _state_words(numbers)
    root = _parse(domain.XMLDesc(0), domain)
    identifier = root.get("id")
    guest = {
        "name": domain.name(), "uuid": domain.UUIDString(), "state": state, "reason": reason,
        "id": int(identifier) if identifier else None, "persistent": None, "autostart": None,
        "nics": [_nic(element, identifier is not None) for element in root.iterfind("./devices/interface")],
    }
    return guest, identifier is not None


def _parse(text, domain):
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as exc:
        raise NodeError("the XML of guest %s can't be read: %s." % (domain.name(), exc), code="libvirt",
                        target=domain.UUIDString(), remedy="Look at it with `virsh dumpxml`.")


def _add_configured(guest, text):
    live = {nic["mac"]: nic for nic in guest["nics"]}
    for element in ElementTree.fromstring(text).iterfind("./devices/interface"):
        nic = _nic(element, running=False)
        if nic["mac"] in live:
            live[nic["mac"]]["link_config"] = nic["link_config"]
        else:
            guest["nics"].append(nic)


def _add_tuning(guest, live, config):
    """What of processors and disks can be throttled, by scope; None where the guest has no such scope."""
    roots = {"live": live, "config": config}
    guest["scheduler"] = {scope: None if root is None else _scheduler(root) for scope, root in roots.items()}
    guest["disks"] = {}
    for scope, root in roots.items():
        for element in () if root is None else root.iterfind("./devices/disk"):
            target = _attribute(element, "target", "dev")
            if target and element.get("device", "disk") in ("disk", "lun"):
                guest["disks"].setdefault(target, {"live": None, "config": None})[scope] = _iotune(element)


def _scheduler(root):
    vcpu = root.find("vcpu")
    count = int(vcpu.get("current") or vcpu.text)
    given = root.findtext("./cputune/global_quota")
    period = root.findtext("./cputune/global_period")
    unlimited = given is None or not 0 < int(given) < _NO_QUOTA
    return {"quota": None if unlimited else int(given), "period": int(period) if period else None, "vcpus": count}


def _iotune(disk):
    return rates({child.tag: int(child.text) for child in disk.iterfind("./iotune/*") if child.tag in IOTUNE and child.text})


def rates(params):
    """A disk's rates as they matter: without zeroes, and without the length of a burst that is one second or there is none."""
    return {name: value for name, value in params.items() if name in IOTUNE and value and not (
        name.endswith("_length") and (value == 1 or not params.get(name[:-len("_length")])))}


# -- changing -------------------------------------------------------------------------------


def apply_step(host, step):
    """Carry out one step planned by `_hold`.

    :returns: True if it changed anything
    :raises NodeError: code `guest_missing`, `guest_state` (retryable: it is not as planned),
        `libvirt_down` (retryable), `libvirt` or `unverified`
    """
    uuid, service, verb = step["guest_uuid"], step["service"], step["verb"]
    if verb == "set_link":
        return set_link(host, uuid, step["mac"], step["after"], step["scope"], service)
    if verb == "set_autostart":
        return set_autostart(host, uuid, step["after"], service)
    if verb == "set_quota":
        return set_quota(host, uuid, step["after"], step["scope"], service)
    if verb == "set_iotune":
        return set_iotune(host, uuid, step["target"], step["after"], step["scope"], service)
    if verb == "shutdown":
        return bool(shutdown_then_destroy(host, uuid, step["deadline_seconds"], service))
    return {"pause": pause, "resume": resume, "start": start, "destroy": destroy}[verb](host, uuid, service)


def pause(host, uuid, service=None):
    """Stop the guest's processors. Returns whether that changed anything."""
    with _Doing(host, uuid, service, "pause") as doing:
        if doing.state() == "paused":
            return False
        doing.require("running", "shutting_down")
        doing.domain.suspend()
        doing.verify("paused")
    return True


def resume(host, uuid, service=None):
    """Let a paused guest run on. Returns whether that changed anything."""
    with _Doing(host, uuid, service, "resume") as doing:
        if doing.state() in ("running", "shutting_down"):
            return False
        doing.require("paused")
        try:
            doing.domain.resume()
        except libvirt.libvirtError:
            # libvirt gives routed taps their addresses again and fails where they still are (seen with 9.0).
            if not _take_off_addresses(ElementTree.fromstring(doing.domain.XMLDesc(0))):
                raise
            doing.domain.resume()
        doing.verify("running", "shutting_down")
    return True


def _take_off_addresses(domain):
    """Remove what addresses libvirt itself gave the host's side of routed taps. Whether there were any."""
    found = False
    for nic in domain.iterfind("./devices/interface[@type='ethernet']"):
        device = _attribute(nic, "target", "dev")
        for ip in nic.iterfind("./source/ip") if device else ():
            prefix = int(ip.get("prefix") or (128 if ip.get("family") == "ipv6" else 32))
            try:
                found = _host_addresses.remove(device, ip.get("address"), prefix) or found
            except (OSError, ValueError):
                continue  # then libvirt's own words say what is wrong
    return found


def start(host, uuid, service=None):
    """Boot a guest that is off. Returns whether that changed anything."""
    with _Doing(host, uuid, service, "start") as doing:
        if doing.state() in ("running", "shutting_down"):
            return False
        doing.require("off")
        doing.domain.create()
        if doing.state() == "paused":
            doing.domain.resume()  # a guest saved while paused comes back paused
        doing.verify("running", "shutting_down")
    return True


def destroy(host, uuid, service=None):
    """Power off at once. Returns whether that changed anything."""
    with _Doing(host, uuid, service, "destroy", gone_is_off=True) as doing:
        if doing.state() == "off":
            return False
        doing.domain.destroy()
        doing.verify("off")
    return True


def shutdown_then_destroy(host, uuid, deadline_seconds, service=None, clock=time.monotonic, sleep=time.sleep):
    """Ask by ACPI, power off when the deadline has passed. "Being shut down" is not off.

    A paused guest is resumed first: it could not hear the request. Where libvirt can't ask, the
    guest is powered off at once.

    :returns: `shutdown`, `destroyed`, or an empty string if it was off
    """
    with _Doing(host, uuid, service, "shutdown", gone_is_off=True) as doing:
        state = doing.state()
        if state == "off":
            return ""
        if state == "paused":
            doing.domain.resume()
        end = clock() + deadline_seconds
        asked = doing.ask_to_shut_down()
        while asked and clock() < end:
            if doing.state() == "off":
                return "shutdown"
            sleep(POLL_SECONDS)
        if doing.state() == "off":
            return "shutdown"
        doing.domain.destroy()
        doing.verify("off")
    return "destroyed"


def set_autostart(host, uuid, wanted, service=None):
    """Whether the guest starts with the host. Returns whether that changed anything."""
    with _Doing(host, uuid, service, "set_autostart") as doing:
        if bool(doing.domain.autostart()) == wanted:
            return False
        doing.domain.setAutostart(1 if wanted else 0)
        if bool(doing.domain.autostart()) != wanted:
            raise doing.unverified("autostart is still %s" % (not wanted))
    return True


def set_link(host, uuid, mac, wanted, scope, service=None):
    """Plug a NIC's virtual cable in or out, touching nothing else of it.

    :param wanted: `up` or `down`
    :param scope: `live` (the running guest) or `config` (its next start)
    :returns: whether that changed anything
    """
    live = scope == "live"
    with _Doing(host, uuid, service, "set_link") as doing:
        elements = doing.interfaces(mac, live)
        changed = False
        for element in elements:
            if _link(element) == wanted:
                continue
            link = element.find("link")
            if wanted == "up":
                element.remove(link)  # up is the default: so the XML is again what it was
            else:
                if link is None:
                    link = ElementTree.SubElement(element, "link")
                link.set("state", wanted)
            doing.domain.updateDeviceFlags(
                ElementTree.tostring(element, encoding="unicode"),
                libvirt.VIR_DOMAIN_AFFECT_LIVE if live else libvirt.VIR_DOMAIN_AFFECT_CONFIG)
            changed = True
        if changed and any(_link(element) != wanted for element in doing.interfaces(mac, live)):
            raise doing.unverified("the %s link of %s is not %s" % (scope, mac, wanted))
    return changed


def set_quota(host, uuid, wanted, scope, service=None):
    """Microseconds per period for the whole guest; None for no limit. Returns whether that changed anything."""
    flag = libvirt.VIR_DOMAIN_AFFECT_LIVE if scope == "live" else libvirt.VIR_DOMAIN_AFFECT_CONFIG
    # In the configuration 0 is as if it had never been written; the running guest needs to be told.
    nothing = -1 if scope == "live" else 0
    with _Doing(host, uuid, service, "set_quota") as doing:
        doing.domain.setSchedulerParametersFlags({"global_quota": nothing if wanted is None else wanted}, flag)
        seen = doing.domain.schedulerParametersFlags(flag).get("global_quota", 0)
        seen = seen if 0 < seen < _NO_QUOTA else None
        if seen != wanted:
            raise doing.unverified("the %s quota is %s" % (scope, seen))
    return True


def set_iotune(host, uuid, target, wanted, scope, service=None):
    """Rates of a disk; what is not in `wanted` has none. Returns whether that changed anything."""
    flag = libvirt.VIR_DOMAIN_AFFECT_LIVE if scope == "live" else libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with _Doing(host, uuid, service, "set_iotune") as doing:
        before = doing.domain.blockIoTune(target, flag)
        params = {name: wanted.get(name, 0) for name in IOTUNE
                  if name in wanted or not name.endswith("_length") or before.get(name)}
        doing.domain.setBlockIoTune(target, params, flag)
        seen = rates(doing.domain.blockIoTune(target, flag))
        if seen != wanted:
            raise doing.unverified("the %s rates of disk %s are %s" % (scope, target, seen))
    return True


def rates_in_force(host, uuid, target):
    """Rates of a running guest's disk as qemu has them."""
    with _Doing(host, uuid, None, "check_limits") as doing:
        return rates(doing.domain.blockIoTune(target, libvirt.VIR_DOMAIN_AFFECT_LIVE))


def create_transient(host, xml):
    """Run a guest that libvirt forgets when it ends.

    :returns: its domain, for `processor_seconds` and `end_transient`
    :raises NodeError: code `libvirt`
    """
    try:
        return host.connection.createXML(xml, libvirt.VIR_DOMAIN_START_AUTODESTROY)
    except libvirt.libvirtError as exc:
        raise NodeError("the guest to be measured can't be run: %s." % exc.get_error_message(), code="libvirt",
                        remedy="Mend what libvirt names; guests of its own run by the same means.")


def processor_seconds(domain):
    """Seconds of processor time that a running guest has used, what qemu does for it included."""
    try:
        return domain.getCPUStats(True)[0]["cpu_time"] / 1e9
    except libvirt.libvirtError as exc:
        raise NodeError("the guest to be measured is gone: %s." % exc.get_error_message(), code="libvirt")


def end_transient(domain):
    """End a guest of `create_transient`; one that is gone is no error."""
    try:
        domain.destroy()
    except libvirt.libvirtError as exc:
        if exc.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            raise NodeError("guest %s can't be ended: %s." % (domain.name(), exc.get_error_message()), code="libvirt",
                            remedy="End it with `virsh destroy %s`." % domain.name())


class _Doing:
    """One verb on one guest: finds it, and makes libvirt's errors ours, with service, guest and verb."""

    def __init__(self, host, uuid, service, verb, gone_is_off=False):
        self._host = host
        self._uuid = uuid
        self._service = service
        self._verb = verb
        self._gone_is_off = gone_is_off
        self.domain = None

    def __enter__(self):
        try:
            self.domain = self._host.domain(self._uuid)
        except libvirt.libvirtError as exc:
            raise self._error(exc)
        return self

    def __exit__(self, _kind, exc, _trace):
        if isinstance(exc, libvirt.libvirtError):
            raise self._error(exc) from exc
        return False

    def _error(self, exc):
        return _failed(self._host, exc, self._uuid, self._service, self._verb)

    def state(self):
        """The guest's state now; a transient guest that is gone counts as off where that is what's wanted."""
        try:
            return _state_words(self.domain.state())[0]
        except libvirt.libvirtError as exc:
            if self._gone_is_off and exc.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                return "off"
            raise

    def require(self, *states):
        """Refuse if the guest is in another state than the plan took it to be."""
        state = self.state()
        if state not in states:
            raise self._changed("it is %s, not %s" % (state, " or ".join(states)))

    def verify(self, *states):
        """Read back.

        :raises NodeError: code `unverified`
        """
        state = self.state()
        if state not in states:
            raise self.unverified("it is %s" % state)

    def unverified(self, seen):
        """The error for a change that libvirt accepted and that can't be seen afterwards."""
        return NodeError(
            "%s: libvirt accepted it, but %s." % (_what(self._uuid, self._service, self._verb), seen),
            code="unverified", target=self._service or self._uuid, retryable=True,
            remedy="Look at the guest with `virsh`, then run `reconcile`.")

    def _changed(self, seen):
        return NodeError(
            "%s: %s." % (_what(self._uuid, self._service, self._verb), seen),
            code="guest_state", target=self._service or self._uuid, retryable=True,
            remedy="Somebody changed it meanwhile: run again, it plans anew.")

    def ask_to_shut_down(self):
        """Press the ACPI button; False where that is not possible."""
        for flags in (libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN, 0):
            try:
                self.domain.shutdownFlags(flags)
                return True
            except libvirt.libvirtError as exc:
                if exc.get_error_code() == libvirt.VIR_ERR_OPERATION_INVALID and self.state() == "off":
                    return True
                if exc.get_error_code() not in (
                        libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED,
                        libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_OPERATION_UNSUPPORTED,
                        libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
                    raise
        return False

    def interfaces(self, mac, live):
        """The guest's own XML of the NICs with this MAC.

        :raises NodeError: code `guest_state` if there is none
        """
        flags = 0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE
        root = _parse(self.domain.XMLDesc(flags), self.domain)
        found = [
            element for element in root.iterfind("./devices/interface")
            if (_attribute(element, "mac", "address") or "").lower() == mac
        ]
        if not found or (live and root.get("id") is None):
            raise self._changed("it has no %s NIC %s" % ("live" if live else "configured", mac))
        return found


def _what(uuid, service, verb):
    return "service %s, guest %s, %s" % (service, uuid, verb) if service else "guest %s, %s" % (uuid, verb)


def _failed(host, exc, uuid, service, verb):
    """The NodeError for an error of libvirt's."""
    code = exc.get_error_code()
    what, target = _what(uuid, service, verb), service or uuid
    if code == libvirt.VIR_ERR_NO_DOMAIN:
        return NodeError("%s: there is no such guest on this node." % what, code="guest_missing",
                         target=target, remedy="Correct the catalogue, or lift the enforcement.")
    lost = (libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_ERR_RPC)
    if exc.get_error_domain() == libvirt.VIR_FROM_RPC or code in lost:
        return _down(host.uri, exc)
    busy = code == libvirt.VIR_ERR_OPERATION_TIMEOUT
    return NodeError(
        "%s: libvirt says: %s." % (what, exc.get_error_message()), code="libvirt", target=target,
        retryable=busy,
        remedy="Another operation on this guest is running: wait for it, then run again." if busy
        else "Mend what libvirt names, then run `reconcile`.")
