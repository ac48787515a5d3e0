# SPDX-FileCopyrightText: 2016 David Barroso and the NAPALM authors
# SPDX-FileCopyrightText: Network to Code, LLC
# SPDX-FileCopyrightText: Cisco Systems, Inc. and its affiliates
# SPDX-License-Identifier: Apache-2.0
"""What real routers printed, as public projects recorded it: the parsers' second opinion beside our reading of manuals.

Shortened (whole rows and paths left out, lines of JSON joined), otherwise as recorded. All under the Apache License 2.0,
which goes together with version 3 of the GPL (LICENSES/Apache-2.0.txt). Each has its source above it.
"""
from __future__ import annotations

# napalm-automation/napalm, test/eos/mocked_data/test_get_route_to/iss_736/show_ip_bgp_1_0_4_0_24_detail_vrf_default.json
EOS_BGP_DETAIL = """{"vrfs": {"default": {"routerId": "1.0.4.48", "vrf": "default", "bgpRouteEntries": {"1.0.4.0/24": {"totalPaths": 2,
"bgpAdvertisedPeerGroups": {"INTERNAL-TOR": {"peerList": ["1.0.4.223"]}}, "totalAdvertisedPeers": 1, "maskLength": 16, "bgpRoutePaths": [
{"asPathEntry": {"asPathType": "Confed-External", "asPath": "(20901 21149)"}, "med": 175, "localPreference": 100, "weight": 0,
"reasonNotBestpath": "noReason", "timestamp": 1526591713, "nextHop": "1.0.4.221", "routeType": {"atomicAggregator": false, "origin": "Igp",
"suppressed": false, "queued": false, "valid": true, "ecmpContributor": true, "luRoute": false, "active": true, "stale": false, "ecmp": true,
"backup": false, "ecmpHead": true, "ucmp": false}, "routeDetail": {"origin": "Igp", "peerEntry": {"peerRouterId": "1.0.4.1",
"peerAddr": "1.0.4.221"}, "tunnelRibEligible": false, "extCommunityList": [], "communityList": [], "rxSafi": "Unicast",
"aggregator": " (aggregated by 65001 1.0.4.49)", "recvdFromRRClient": false, "labelStack": []}}], "address": "1.0.4.0"}}, "asn": 20948}}}
"""

# napalm-automation/napalm, test/eos/mocked_data/test_get_bgp_neighbors_detail/issue1416/show_ip_bgp_summary_vrf_all.json
EOS_BGP_SUMMARY = """{"vrfs": {"default": {"routerId": "100.127.251.128", "peers": {"100.64.1.0": {"msgSent": 23, "inMsgQueue": 0, "prefixReceived": 2,
"upDownTime": 1452680643.198489, "version": 4, "msgReceived": 18, "prefixAccepted": 2, "peerState": "Established", "outMsgQueue": 0,
"underMaintenance": false, "asn": 65001}, "100.64.2.0": {"msgSent": 0, "inMsgQueue": 0, "prefixReceived": 0, "upDownTime": 1452680643.198489,
"version": 4, "msgReceived": 0, "prefixAccepted": 0, "peerState": "Active", "outMsgQueue": 0, "underMaintenance": false, "asn": 65004}},
"vrf": "default", "asn": 65001}}}
"""

# networktocode/ntc-templates, tests/arista_eos/show_ip_access-lists/arista_eos_show_ip_access-lists.raw
EOS_ACCESS_LIST = """IP Access List TEST_1
        10 permit ip host 10.0.0.1 10.0.0.0/24

IP Access List default-control-plane-acl [readonly]
        statistics per-entry
        10 permit icmp any any
        50 permit tcp any any eq ssh telnet www snmp bgp https msdp
        70 permit tcp any any range 5900 5910

IP Access List test2
        10 permit ip 1.1.1.0/30 any fragments log
"""

# networktocode/ntc-templates, tests/cisco_ios/show_ip_bgp_summary/cisco_ios_show_ip_bgp_summary.raw
IOS_BGP_SUMMARY = """BGP router identifier 10.0.0.0, local AS number 65000
BGP table version is 512185206, main routing table version 512185206
566019 network entries using 140372712 bytes of memory
4478571 path entries using 501599952 bytes of memory
448860/89167 BGP path/bestpath attribute entries using 100544640 bytes of memory
1121781 received paths for inbound soft reconfiguration
BGP activity 19247146/18656050 prefixes, 368760729/364163114 paths, scan interval 60 secs

Neighbor        V           AS MsgRcvd MsgSent   TblVer  InQ OutQ Up/Down  State/PfxRcd
10.0.0.1        4        65000 2746767 2396274 512185206    0    0 3w0d       558720
10.0.0.3        4        65002  695143  689871 512185203    0    0 1y10w           0
10.0.0.9        4        65008  222146 14368489 512185203    0    0 22w0d           0
10.0.0.10       4        65009 26930508  942614 512185203    0    0 1y10w     Idle (Admin)
"""

# CiscoTestAutomation/genieparser, src/genie/libs/parser/iosxe/tests/ShowBgpAllSummary/cli/equal/golden_output1_output.txt
IOSXE_BGP_SUMMARY6 = """BGP router identifier 192.168.111.1, local AS number 100
BGP table version is 1, main routing table version 1

Neighbor        V           AS MsgRcvd MsgSent   TblVer  InQ OutQ Up/Down  State/PfxRcd
2001:db8:400::1:1       4          100       0       0        1    0    0 01:07:38 Idle
2001:db8:400::4:1       4          100       0       0        1    0    0 01:07:38 Idle
2001::14:4      4          200       0       0        1    0    0 never    Idle
"""

# networktocode/ntc-templates, tests/cisco_ios/show_ip_bgp_neighbors_advertised-routes/show_ip_bgp_neighbors_advertised_routes.raw
IOS_ADVERTISED = """BGP table version is 143173748, local router ID is 192.168.88.2
Status codes: s suppressed, d damped, h history, * valid, > best, i - internal,
              r RIB-failure, S Stale, m multipath, b backup-path, f RT-Filter,
              x best-external, a additional-path, c RIB-compressed,
              t secondary path,
Origin codes: i - IGP, e - EGP, ? - incomplete
RPKI validation codes: V valid, I invalid, N Not found

     Network          Next Hop            Metric LocPrf Weight Path
 *>   113.55.45.0/24   0.0.0.0                            32768 i
 *>   113.55.48.0/24   0.0.0.0                            32768 i
 *>   113.55.50.0/24   0.0.0.0                            32768 i

Total number of prefixes 3
"""

# the same, show_ip_bgp_neighbors_advertised_routes2.raw
IOS_ADVERTISED_WRAPPED = """BGP table version is 175123, local router ID is 1.2.3.4
Status codes: s suppressed, d damped, h history, * valid, > best, i - internal,
              r RIB-failure, S Stale, m multipath, b backup-path, f RT-Filter,
              x best-external, a additional-path, c RIB-compressed,
Origin codes: i - IGP, e - EGP, ? - incomplete
RPKI validation codes: V valid, I invalid, N Not found

     Network          Next Hop            Metric LocPrf Weight Path
 *>  11.222.33.123/29 111.222.123.202    1762560    350      0 65000 ?
 *>  11.222.12.0/23   11.222.1.202          3072    350      0 65000 ?
 *>  123.233.111.222/24
                       11.222.1.202         28416    350      0 65000 ?

Total number of prefixes 4
"""

# networktocode/ntc-templates, tests/cisco_ios/show_running-config_interface/cisco_ios_show_running-config_interface.raw
IOS_INTERFACES = """Building configuration...

Current configuration : 440 bytes
!
interface GigabitEthernet2/0/4.223415
 description DISTRIBUTION  | 2048K
 bandwidth 2048
 encapsulation dot1Q 2234 second-dot1q 15
 vrf forwarding CLIENT_VOIP:1234
 ip address 10.30.33.161 255.255.255.252
 no ip proxy-arp
 ip verify unicast source reachable-via rx allow-default allow-self-ping
 service-policy input VIPSIP_POLICY_2048_V1
 service-policy output VIPSIP_POLICY_2048_OUT
!
interface GigabitEthernet2/0/4.223436
 description AVENIDA | 100M
 bandwidth 2048
 encapsulation dot1Q 2234 second-dot1q 36
 vrf forwarding CLIENT_VOIP:1234
 ip address 10.39.246.29 255.255.255.252
 no ip proxy-arp
 ip verify unicast source reachable-via rx allow-default allow-self-ping
 ip access-group oACL out
 ip access-group iACL in
 service-policy input VIPSIP_POLICY_2048_V1
 service-policy output VIPSIP_POLICY_2048_OUT
!
"""
