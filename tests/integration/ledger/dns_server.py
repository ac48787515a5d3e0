# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A DNS server on loopback that says what a test wants: real packets over UDP and TCP."""
from __future__ import annotations

import socket
import struct
import threading

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer:
    """Answers from `records`: {name: {"A": [...], "AAAA": [...], "CNAME": name, "rcode": "SERVFAIL", "ttl": 60}}.

    A name not in it does not exist. `{"silent": True}` gets no answer at all.
    """

    def __init__(self):
        self.records = {}
        self.asked = []
        # One port for both; another try when somebody else has the second one.
        for _attempt in range(20):
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", 0))
            self.port = self.udp.getsockname()[1]
            self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                self.tcp.bind(("127.0.0.1", self.port))
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
        self.tcp.listen(16)
        for work in (self._serve_udp, self._serve_tcp):
            threading.Thread(target=work, daemon=True).start()

    @property
    def address(self):
        return "127.0.0.1:%d" % self.port

    def close(self):
        for server in (self.udp, self.tcp):
            try:
                server.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            server.close()

    def _answer(self, wire):
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        reply = dns.message.make_response(query)
        reply.flags |= dns.flags.RA
        for _hop in range(10):
            found = self.records.get(name)
            if found is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)
                break
            if found.get("silent"):
                return None
            if found.get("rcode"):
                reply.set_rcode(dns.rcode.from_text(found["rcode"]))
                break
            ttl = found.get("ttl", 60)
            if "CNAME" in found:
                reply.answer.append(dns.rrset.from_text(name + ".", ttl, "IN", "CNAME", found["CNAME"] + "."))
                name = found["CNAME"]
                continue
            if found.get(kind):
                reply.answer.append(dns.rrset.from_text_list(name + ".", ttl, "IN", kind, found[kind]))
            break
        return reply

    def _serve_udp(self):
        while True:
            try:
                wire, peer = self.udp.recvfrom(65535)
            except OSError:
                return
            reply = self._answer(wire) if wire else None  # a shut down socket wakes with nothing
            if reply is None:
                continue
            try:
                packed = reply.to_wire(max_size=1232)
            except dns.exception.TooBig:
                short = dns.message.make_response(dns.message.from_wire(wire))
                short.flags |= dns.flags.TC
                packed = short.to_wire()
            self.udp.sendto(packed, peer)

    def _serve_tcp(self):
        while True:
            try:
                connection, _peer = self.tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream:
                connection.settimeout(5)
                head = stream.read(2)
                if len(head) < 2:
                    continue
                reply = self._answer(stream.read(struct.unpack("!H", head)[0]))
                if reply is not None:
                    packed = reply.to_wire(max_size=65535)
                    connection.sendall(struct.pack("!H", len(packed)) + packed)
