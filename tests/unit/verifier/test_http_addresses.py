from ipaddress import ip_address, ip_network

import pytest

from rlsd.errors import ConfigError
from rlsd.verifier_client.addresses import ForbiddenAddress, check_address, parse_endpoint, resolve

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",  # carrier-grade NAT
    "100.100.100.200",  # a metadata service
    "169.254.169.254",  # the metadata service
    "168.63.129.16",  # a cloud's own host in a public range
    "192.0.2.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%1",
    "fc00::1",
    "fd00:ec2::254",  # a metadata service
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "2001:db8::1",
    "fec0::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_forbidden(address):
    with pytest.raises(ForbiddenAddress, match="not a public address"):
        check_address(ip_address(address), (), is_encrypted=True)


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "2606:4700::1111"])
def test_a_public_address_is_reached_by_https_alone(address):
    check_address(ip_address(address), (), is_encrypted=True)
    with pytest.raises(ForbiddenAddress, match="use https"):
        check_address(ip_address(address), (), is_encrypted=False)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.1.2.3", "10.1.0.0/16"),
        ("::ffff:10.1.2.3", "10.1.0.0/16"),
        ("fd00::5", "fd00::/8"),
        ("8.8.8.8", "8.8.8.0/24"),
    ],
)
def test_a_listed_network_is_reached_by_http_too(address, network):
    check_address(ip_address(address), [ip_network(network)], is_encrypted=False)


def test_another_listed_network_does_not_help():
    with pytest.raises(ForbiddenAddress):
        check_address(
            ip_address("10.2.0.1"),
            [ip_network("10.1.0.0/16"), ip_network("fd00::/8")],
            is_encrypted=True,
        )


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "127.1", "017700000001", "127.0.1"]
)
def test_an_address_in_disguise_is_refused_before_anything_starts(host):
    with pytest.raises(ConfigError, match="four decimal numbers"):
        parse_endpoint(f"https://{host}/", default_path="/")


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "0177.0.0.1"])
async def test_an_address_in_disguise_is_a_loopback_address_to_the_resolver(host):
    for address in await resolve(host, 443):
        with pytest.raises(ForbiddenAddress):
            check_address(address, (), is_encrypted=True)


async def test_what_is_no_host_name_is_not_found():
    with pytest.raises(OSError, match="not a host name"):
        await resolve("a" * 64 + ".test", 443)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://a.test/", "https://host/path"),
        ("a.test/x", "https://host/path"),
        ("https:///x", "https://host/path"),
        ("https://user:secret@a.test/", "bearer_file"),
        ("https://a.test/#x", "fragment"),
        ("https://a.test:99999/", "[Pp]ort"),
        ("https://a.test/\r\nHost: b", "ASCII"),
        ("https://a.test/x y", "ASCII"),
        ("https://bücher.test/", "ASCII"),
        ("https://[::1/", "IPv6"),
    ],
)
def test_a_wrong_url_is_explained(url, words):
    with pytest.raises(ConfigError, match=words) as caught:
        parse_endpoint(url, default_path="/")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "target", "header"),
    [
        ("https://a.test", "/v1/verify", "a.test"),
        ("https://a.test/", "/v1/verify", "a.test"),
        ("https://a.test/x/y?z=1", "/x/y?z=1", "a.test"),
        ("https://a.test:8443/x", "/x", "a.test:8443"),
        ("http://[fd00::1]:80/x", "/x", "[fd00::1]"),
    ],
)
def test_a_url_without_a_path_gets_the_adapters_own(url, target, header):
    endpoint = parse_endpoint(url, default_path="/v1/verify")
    assert (endpoint.target, endpoint.host_header) == (target, header)
