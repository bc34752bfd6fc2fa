"""Addresses: what may be a link, and where posts, people and tags are elsewhere."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.pages.addresses import (
    anchor_of,
    file_stem_of,
    host_of,
    post_address,
    profile_address,
    record_address,
    tag_address,
    web_address,
)

DID = "did:plc:vrfckyxr7kryq6bne3gdrehq"
POST = f"at://{DID}/app.bsky.feed.post/3kabc"

SAFE = re.compile(
    r"https?://[^\s\x00-\x20/?#\\:@\[\]<>\"]+(?::[0-9]{1,5})?(?:[/?#][!#$%&'()*+,./0-9:;=?@A-Z\[\]_a-z~-]*)?"
)
"""An address as pages have them: ASCII behind the host, and nothing that ends an attribute."""


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com/a_(b)?q=1&r=%20#part", "https://example.com/a_(b)?q=1&r=%20#part"),
        ("http://example.com:8080/", "http://example.com:8080/"),
        ("http://example.com:65535/", "http://example.com:65535/"),
        ("HTTPS://Example.com/A", "https://Example.com/A"),
        ("https://cdn.bsky.app/img/plain/did:plc:a/bafk@jpeg", "https://cdn.bsky.app/img/plain/did:plc:a/bafk@jpeg"),
        ("https://例え.example/ü?a=ß#é", "https://例え.example/%C3%BC?a=%C3%9F#%C3%A9"),
        ('https://example.com/a"b<c>|d^e`{f}', "https://example.com/a%22b%3Cc%3E%7Cd%5Ee%60%7Bf%7D"),
        ("https://example.com/100%", "https://example.com/100%25"),
        ("https://example.com/%zz%41", "https://example.com/%25zz%41"),
        ("https://example.com?q", "https://example.com?q"),
        ("https://example.com/\u202egnp.exe", "https://example.com/%E2%80%AEgnp.exe"),
    ],
)
def test_web_addresses(written: str, address: str) -> None:
    """Addresses of the web stay what they are, percent-encoded where they must be."""
    assert web_address(written) == address
    assert web_address(address) == address


@pytest.mark.parametrize(
    "written",
    [
        "",
        "example.com",
        "//example.com/",
        "/etc/passwd",
        "javascript:alert(1)",
        "JaVaScRiPt://example.com/%0aalert(1)",
        "java\nscript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "vbscript:x",
        "file:///etc/passwd",
        "ftp://example.com/",
        "httpſ://example.com/",
        "https:example.com",
        "https:/example.com",
        "https://",
        "https:///path",
        "https://?q",
        "https://example.com\\@evil.example/",
        "https://example.com/\\evil",
        "https://bsky.app@evil.example/",
        "https://user:password@evil.example/",
        "https://evil.example:80@bsky.app/",
        "https://exa mple.com/",
        "https://example.com/a b",
        "https://example.com/a\tb",
        "https://example.com/a\n",
        " https://example.com/",
        "https://example.com/\x00",
        "https://example.com/\x7f",
        "https://example.com/\x85",
        "https://example.com/\u2028",
        "https://example.com/\ud800",
        "https://example.com／@evil.example",
        "https://example.com\u2044path",
        "https://bsky\u200b.app/",
        "https://\u202emoc.elpmaxe/",
        "https://.example.com/",
        "https://-example.com/",
        "https://example..com/",
        "https://example.com:0x50/",
        "https://example.com:65536/",
        "https://example.com:/",
        "https://[::1]/",
        "https://exa%6dple.com/",
        'https://example.com"onmouseover="alert(1)/',
        "https://example.com/" + "a" * 8000,
    ],
)
def test_what_is_no_link(written: str) -> None:
    """No other scheme, and nothing that misleads a reader or a browser."""
    assert web_address(written) == ""


PIECES = st.sampled_from(
    [
        "http", "https", "HTTPS", "://", ":", "/", "//", "\\", "@", "?", "#", "%", "%2F", "javascript", "example.com",
        "..", "[", "]", '"', "'", "<", ">", "&", " ", "\t", "\n", "\0", "ſ", "K", "／", "。", "\u202e", "\u200b",
        "\ud800", "é", "80",
    ]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=12).map("".join)))
def test_addresses_are_safe_or_empty(written: str) -> None:
    """Whatever is written, an address has a known form, and is its own address."""
    for text in (written, f"https://{written}", f"https://example.com/{written}"):
        address = web_address(text)
        assert address == "" or SAFE.fullmatch(address)
        assert web_address(address) == address


def test_hosts() -> None:
    """People see the host of a link."""
    assert host_of("https://www.example.com:8080/a") == "example.com:8080"
    assert host_of("https://例え.example?q") == "例え.example"
    assert host_of("") == ""


def test_records_elsewhere() -> None:
    """Posts, lists, feeds, starter packs and labelers have a page on bsky.app; anything else has none."""
    assert post_address(POST) == f"https://bsky.app/profile/{DID}/post/3kabc"
    assert record_address(f"at://{DID}/app.bsky.graph.list/a") == f"https://bsky.app/profile/{DID}/lists/a"
    assert record_address(f"at://{DID}/app.bsky.feed.generator/a") == f"https://bsky.app/profile/{DID}/feed/a"
    assert record_address(f"at://{DID}/app.bsky.graph.starterpack/a") == f"https://bsky.app/starter-pack/{DID}/a"
    assert record_address(f"at://{DID}/app.bsky.labeler.service/self") == f"https://bsky.app/profile/{DID}"
    web = "at://did:web:example.com%3A80/app.bsky.feed.post/a"
    assert post_address(web) == "https://bsky.app/profile/did:web:example.com%253A80/post/a"
    for uri in (
        "", DID, POST + "/x", POST + "?", POST + "\n", f"at://{DID}/app.bsky.feed.like/a", POST.replace("plc", "PLC"),
        f"at://{DID}/app.bsky.feed.post/..", f"at://{DID}/app.bsky.feed.post/", f"https://{DID}/app.bsky.feed.post/a",
        f"at://{DID}/app.bsky.feed.post/a b", "at://ada.example.com/app.bsky.feed.post/a", POST.replace("3k", "é"),
    ):  # fmt: skip
        assert post_address(uri) == "", uri
    assert post_address(f"at://{DID}/app.bsky.graph.list/a") == ""


def test_people_and_tags_elsewhere() -> None:
    """Profiles of DIDs and handles, and tags of any script."""
    assert profile_address(DID) == f"https://bsky.app/profile/{DID}"
    assert profile_address("ada.example.com") == "https://bsky.app/profile/ada.example.com"
    for author in ("", "ada", "did:", "did:plc:", "ada.example.com/", "a..b", "ſ.example", "../x", "did:plc:a b"):
        assert profile_address(author) == "", author
    assert tag_address("日本") == "https://bsky.app/hashtag/%E6%97%A5%E6%9C%AC"
    assert tag_address("../a?b#c\"'&\ud800") == "https://bsky.app/hashtag/..%2Fa%3Fb%23c%22%27%26%3F"


def test_anchors_and_names_of_files() -> None:
    """Record keys where they can be, hashes elsewhere; the page's own ids end in a star, which neither does."""
    did = DID.encode()
    anchor = anchor_of(POST.encode(), did, 7)
    assert anchor == file_stem_of(anchor) == "3kabc"
    hashed = [
        POST.encode() + b"*", POST.encode() + b"/x", b"at://%b/app.bsky.feed.post/" % did, b"row 7", b"",
        b"at://%b/app.bsky.feed.post/.." % did, b"at://did:plc:other/app.bsky.feed.post/3kabc",
        b"at://%b/app.bsky.feed.like/3kabc" % did, POST.encode() + b"\xff", POST.encode() + b"\xfe",
    ]  # fmt: skip
    anchors = {anchor_of(uri, did, 7) for uri in hashed}
    assert len(anchors) == len(hashed)
    for anchor in anchors:
        assert re.fullmatch(r"\*[0-9a-f]{32}", anchor)
        assert re.fullmatch("_[0-9a-f]{32}", file_stem_of(anchor))
    assert anchor_of(None, did, 7) == "*r7"
    for key in ("3KABC", "a.b", "con", "nul", "com1", "lpt9", "a" * 65):
        assert anchor_of(f"at://{DID}/app.bsky.feed.post/{key}".encode(), did, 7) == key
        assert file_stem_of(key).startswith("_"), key
    assert file_stem_of("conn") == "conn"
