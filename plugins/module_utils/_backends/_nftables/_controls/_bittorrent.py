# Copyright (c) 2026 hosting.aup contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""BitTorrent by its signs in what a guest sends. Pure. PRIVATE to the collection.

Peers send the handshake both ways, so what the guest sends is enough, whoever called. `@ih` is what follows the TCP
or UDP header, whatever options and extension headers stand before it. Nothing of it is kept.

Signs: the handshake (BEP 3), also with its first byte in a segment of its own and inside µTP without extensions
(BEP 29); DHT queries and answers, the latter also with the asker's address before them (BEP 5, BEP 42); the UDP tracker's
connect (BEP 15: 0x41727101980, action 0); HTTP trackers, scrapes and web seeds with `info_hash` first; local
service discovery (BEP 14). Not seen: encrypted peers (MSE), trackers over TLS or with a key in the path.
"""
from __future__ import annotations

from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._control import Control, chain
from ansible_collections.hosting.aup.plugins.module_utils._backends._nftables._controls._signs import FLOW_SAMPLES, sign, start

_PEER = b"BitTorrent protocol"
_HTTP = (b"GET /announce?info_hash=", b"GET /announce.php?info_hash=", b"GET /scrape?info_hash=", b"GET /webseed?info_hash=")
_DHT = (b"d1:ad2:id20:", b"d1:rd2:id20:")


class BitTorrent(Control):
    """Peers, DHT and trackers."""

    name = "bittorrent"
    letter = "b"
    samples = FLOW_SAMPLES

    def rules(self, family, direction, parameters):
        """The first two bytes tell most packets apart from all signs at once."""
        return [
            "meta l4proto tcp @ih,0,16 vmap { %s : goto bittorrent_peer, %s : goto bittorrent_peer_split,"
            " %s : goto bittorrent_http }" % (start(b"\x13B"), start(b"Bi"), start(b"GE")),
            "meta l4proto udp @ih,0,16 vmap { %s : goto bittorrent_dht, %s : goto bittorrent_dht_address,"
            " 0x0000 : goto bittorrent_tracker, 0x0100 : goto bittorrent_utp, %s : goto bittorrent_local }"
            % (start(b"d1"), start(b"d2"), start(b"BT")),
        ]

    def chains(self, family, parameters):
        """One chain for each kind of sign."""
        hit = " goto " + self.hit("from")
        return "".join((
            chain("bittorrent_peer", [sign(b"\x13" + _PEER) + hit]),
            # Text that speaks of the protocol goes on with a letter; a handshake with eight reserved bytes.
            chain("bittorrent_peer_split", [sign(_PEER) + " @ih,152,8 & 0x7f == 0" + hit]),
            chain("bittorrent_http", [sign(words) + hit for words in _HTTP]),
            chain("bittorrent_dht", [sign(words) + hit for words in _DHT]),
            chain("bittorrent_dht_address", [sign(b"d2:ip6:") + " " + sign(b"1:rd2:id20:", 13) + hit,
                                             sign(b"d2:ip18:") + " " + sign(b"1:rd2:id20:", 26) + hit]),
            chain("bittorrent_tracker", [sign(b"\x00\x00\x04\x17\x27\x10\x19\x80\x00\x00\x00\x00") + hit]),
            chain("bittorrent_utp", [sign(b"\x13" + _PEER, 20) + hit]),
            chain("bittorrent_local", [sign(b"BT-SEARCH * HTTP/1.1\r\n") + hit]),
        ))
