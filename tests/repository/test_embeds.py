"""Records of posts become rows as bskyarchive would have stored them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skyexport.posts import COLUMNS
from skyexport.repository.identifiers import is_did, is_handle, tid_microseconds
from skyexport.repository.posts import ZERO_TIME, Post, go_time, post_of, profile_of
from tests.car_files import DID, blob, raw_cid, tid

IMAGE = b"an image"
CID = "bafkreiff347546zabq72e6iritd6axc4fphnjrvnqy6tuthxnslsyfys7e"
FULLSIZE = f"https://cdn.bsky.app/img/feed_fullsize/plain/{DID}/{CID}@jpeg"
THUMB = f"https://cdn.bsky.app/img/feed_thumbnail/plain/{DID}/{CID}@jpeg"
QUOTED = {"uri": "at://did:plc:other/app.bsky.feed.post/3k", "cid": "bafyreia"}
NOT_FOUND = {"$type": "app.bsky.embed.record#viewNotFound", "notFound": True, "uri": QUOTED["uri"]}
ARCHIVED = "2023-11-14 22:13:20 +0000 UTC"
KEY = tid(1_700_000_000_123_456)


def made(record: Any, key: str = KEY) -> Post:
    """The post of a record."""
    return post_of(record, DID, key, b"\x01\x71\x12\x20" + bytes(32), ARCHIVED)


def row(record: Any, key: str = KEY) -> dict[str, Any]:
    return dict(zip(COLUMNS, made(record, key).row, strict=True))


def embedded(embed: Any) -> dict[str, Any]:
    return row({"text": "x", "createdAt": "2023-11-14T22:13:20Z", "embed": embed})


def test_plain_post() -> None:
    """Every column; counts are 0."""
    assert row({"text": "Hi <b>", "createdAt": "2023-11-14T22:13:20.120Z", "langs": ["en"]}) == {
        "uri": f"at://{DID}/app.bsky.feed.post/{KEY}",
        "cid": "bafyreiaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "did": DID,
        "text": "Hi <b>",
        "created_at": "2023-11-14 22:13:20.12 +0000 UTC",
        "indexed_at": "2023-11-14 22:13:20.123456 +0000 UTC",
        "has_media": 0,
        "like_count": 0,
        "repost_count": 0,
        "reply_count": 0,
        "quote_count": 0,
        "is_reply": 0,
        "reply_parent": "",
        "embed_type": "",
        "embed_data": b"null",
        "labels": b"null",
        "archived_at": ARCHIVED,
    }


def test_images() -> None:
    """With alt text, size, and addresses of Bluesky's servers; `<`, `>` and `&` escaped as Go does."""
    image = {"alt": "<a & b>", "aspectRatio": {"width": 4, "height": 3}, "image": blob(IMAGE)}
    found = embedded({"$type": "app.bsky.embed.images", "images": [image, {"alt": "", "image": blob(IMAGE)}]})
    assert (found["embed_type"], found["has_media"]) == ("images", 1)
    assert (
        found["embed_data"]
        == (
            '{"$type":"app.bsky.embed.images#view","images":[{"alt":"\\u003ca \\u0026 b\\u003e",'
            f'"aspectRatio":{{"height":3,"width":4}},"fullsize":"{FULLSIZE}","thumb":"{THUMB}"}},'
            f'{{"alt":"","fullsize":"{FULLSIZE}","thumb":"{THUMB}"}}]}}'
        ).encode()
    )


def test_old_images() -> None:
    """Old records name a blob by the text of its CID."""
    image = {"alt": "x", "image": {"cid": CID, "mimeType": "image/jpeg"}}
    post = made({"embed": {"$type": "app.bsky.embed.images", "images": [image]}, "createdAt": "2022-11-14T22:13:20Z"})
    assert FULLSIZE.encode() in post.row[14]
    (found,) = post.blobs
    assert (found.sha256, found.mime_type, found.bytes) == (raw_cid(IMAGE)[4:].hex(), "image/jpeg", 0)


def test_external() -> None:
    """A link card, with and without an image."""
    card = {"uri": "https://example.org/?a=1&b=2", "title": "T", "description": "D"}
    found = embedded({"$type": "app.bsky.embed.external", "external": {**card, "thumb": blob(IMAGE)}})
    assert (found["embed_type"], found["has_media"]) == ("external", 1)
    assert (
        found["embed_data"]
        == (
            '{"$type":"app.bsky.embed.external#view","external":{"description":"D",'
            f'"thumb":"{THUMB}","title":"T","uri":"https://example.org/?a=1\\u0026b=2"}}}}'
        ).encode()
    )
    without = embedded({"$type": "app.bsky.embed.external", "external": card})
    assert without["has_media"] == 0
    assert json.loads(without["embed_data"])["external"] == card


def test_record() -> None:
    """A repository has the quotation, not what is quoted."""
    found = embedded({"$type": "app.bsky.embed.record", "record": QUOTED})
    assert (found["embed_type"], found["has_media"]) == ("record", 0)
    assert json.loads(found["embed_data"]) == {"$type": "app.bsky.embed.record#view", "record": NOT_FOUND}


@pytest.mark.parametrize("kind", ["images", "external", "video", "gallery"])
def test_record_with_media(kind: str) -> None:
    """A quotation with images, a link card, a video, or a gallery."""
    every: dict[str, dict[str, Any]] = {
        "images": {"images": [{"alt": "&", "image": blob(IMAGE)}]},
        "external": {"external": {"uri": "https://example.org", "title": "", "description": ""}},
        "video": {"video": blob(IMAGE, "video/mp4"), "alt": "seen"},
        "gallery": {"items": [{"alt": "&", "image": blob(IMAGE), "aspectRatio": {"width": 1, "height": 2}}]},
    }
    found = embedded({
        "$type": "app.bsky.embed.recordWithMedia",
        "media": {"$type": f"app.bsky.embed.{kind}", **every[kind]},
        "record": {"$type": "app.bsky.embed.record", "record": QUOTED},
    })  # fmt: skip
    assert (found["embed_type"], found["has_media"]) == ("record_with_media", 1)
    assert b"&" not in found["embed_data"]
    data = json.loads(found["embed_data"])
    assert [*data] == ["$type", "media", "record"]
    assert data["media"]["$type"] == f"app.bsky.embed.{kind}#view"
    assert data["record"] == {"record": NOT_FOUND}


def test_quoted_address_is_escaped() -> None:
    """With media beside it, too."""
    quoted = {"uri": "at://did:plc:other/a?b&c", "cid": "x"}
    media = {"$type": "app.bsky.embed.images", "images": [{"alt": "&", "image": blob(IMAGE)}]}
    found = embedded(
        {"$type": "app.bsky.embed.recordWithMedia", "media": media, "record": {"record": quoted}},
    )
    assert b"&" not in found["embed_data"]
    assert json.loads(found["embed_data"])["record"]["record"]["uri"] == quoted["uri"]


def test_video() -> None:
    """The addresses of Bluesky's video server."""
    found = embedded({"$type": "app.bsky.embed.video", "video": blob(IMAGE, "video/mp4"), "alt": "a cat"})
    place = f"https://video.bsky.app/watch/{DID.replace(':', '%3A')}/{CID}"
    assert (found["embed_type"], found["has_media"]) == ("video", 1)
    assert json.loads(found["embed_data"]) == {
        "$type": "app.bsky.embed.video#view",
        "alt": "a cat",
        "cid": CID,
        "playlist": f"{place}/playlist.m3u8",
        "thumbnail": f"{place}/thumbnail.jpg",
    }


@pytest.mark.parametrize(
    "embed",
    [
        {"$type": "com.example.poll", "answers": ["a", b"\x00\x01", raw_cid(IMAGE)]},
        {"$type": "app.bsky.embed.images", "images": [{"image": {"ref": b"x"}}]},
        {"$type": "app.bsky.embed.images", "images": [{"alt": "no image"}]},
        {"$type": "app.bsky.embed.record", "record": {"uri": 5}},
        {"$type": 5},
        ["no object"],
        "text",
        2**64 - 1,
        {"$type": "app.bsky.embed.recordWithMedia", "media": {"$type": "other"}, "record": {"record": QUOTED}},
    ],
)
def test_unknown_embeds(embed: Any) -> None:
    """What archives have no view of is kept as it is."""
    post = made({"text": "x", "createdAt": "2023-11-14T22:13:20Z", "embed": embed})
    assert post.unknown_embed
    assert post.row[13] == "other"
    kept = json.loads(post.row[14])
    if isinstance(embed, dict) and "answers" in embed:
        assert kept == {"$type": "com.example.poll", "answers": ["a", {"$bytes": "AAE"}, {"$link": CID}]}
    elif not isinstance(embed, dict):
        assert kept == embed


def test_no_images() -> None:
    """An embed without any image is none, as for bskyarchive."""
    assert embedded({"$type": "app.bsky.embed.images", "images": []})["embed_type"] == ""


@pytest.mark.parametrize(
    ("stated", "stored"),
    [
        ("2023-11-14T22:13:20Z", "2023-11-14 22:13:20 +0000 UTC"),
        ("2023-11-14T22:13:20.000Z", "2023-11-14 22:13:20 +0000 UTC"),
        ("2023-11-14T22:13:20.1234567891Z", "2023-11-14 22:13:20.123456789 +0000 UTC"),
        ("2023-11-14T22:13:20+00:00", "2023-11-14 22:13:20 +0000 UTC"),
        ("2023-04-26T00:09:58-07:00", "2023-04-26 07:09:58 +0000 UTC"),
        ("2024-02-29T23:59:59.5+09:00", "2024-02-29 14:59:59.5 +0000 UTC"),
        ("0000-01-01T00:00:00Z", "0000-01-01 00:00:00 +0000 UTC"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31 23:59:59.999999999 +0000 UTC"),
    ],
)
def test_times(stated: str, stored: str) -> None:
    """Times are stored in UTC, as Go prints them: bskyarchive cannot read all others back."""
    post = made({"createdAt": stated})
    assert (post.row[4], post.time_from_key) == (stored, False)


@pytest.mark.parametrize("stated", ["yesterday", "2023-02-30T00:00:00Z", "", 5, None, "9999-12-31T23:59:59-01:00"])
def test_times_that_are_none(stated: Any) -> None:
    """Then the time in the record key counts; without one it is Go's zero."""
    post = made({"createdAt": stated})
    assert (post.row[4], post.row[5], post.time_from_key) == (post.row[5], "2023-11-14 22:13:20.123456 +0000 UTC", True)
    assert made({"createdAt": stated}, "self").row[4:6] == (ZERO_TIME, ZERO_TIME)


def test_key_without_a_time() -> None:
    """Then the stated time counts for both."""
    assert made({"createdAt": "2023-11-14T22:13:20Z"}, "my-post").row[4:6] == (ARCHIVED, ARCHIVED)


def test_replies() -> None:
    """A reply names the post that it answers."""
    parent = {"uri": "at://did:plc:other/app.bsky.feed.post/3k", "cid": "x"}
    found = row({"createdAt": "2023-11-14T22:13:20Z", "reply": {"root": parent, "parent": parent}})
    assert (found["is_reply"], found["reply_parent"]) == (1, parent["uri"])
    assert row({"reply": {"root": parent}})["is_reply"] == 1
    assert row({"reply": "x"})["is_reply"] == 0


def test_own_labels() -> None:
    """Labels that the author gave the post have the form in which servers show them."""
    values = {
        "$type": "com.atproto.label.defs#selfLabels",
        "values": [{"val": "nudity"}, {"no": 1}, {"val": "spoiler"}],
    }
    found = row({"createdAt": "2023-11-14T22:13:20Z", "labels": values})
    assert json.loads(found["labels"]) == [
        {"cid": found["cid"], "cts": "2023-11-14T22:13:20Z", "src": DID, "uri": found["uri"], "val": value}
        for value in ("nudity", "spoiler")
    ]


@pytest.mark.parametrize(
    "record", [None, 5, [], "x", {}, {"text": 5, "labels": {"values": 3}, "reply": [], "embed": None}]
)
def test_records_that_are_no_posts(record: Any) -> None:
    """Whatever a record is, its post is there, without what it lacks."""
    found = row(record)
    assert (found["text"], found["embed_data"], found["labels"]) == ("", b"null", b"null")


def test_profile() -> None:
    """Name, description, and the addresses of both images."""
    profile = profile_of({"displayName": "Me", "description": "I", "avatar": blob(IMAGE), "banner": {"x": 1}}, DID)
    assert (profile.display_name, profile.description) == ("Me", "I")
    assert (profile.avatar, profile.banner) == (f"https://cdn.bsky.app/img/avatar/plain/{DID}/{CID}@jpeg", "")
    assert profile_of("no profile", DID).avatar == ""


def test_identifiers() -> None:
    """The examples of the specification, and what is none."""
    assert tid_microseconds("2222222222222") == 0
    assert tid_microseconds(tid(1_234_567_890)) == 1_234_567_890
    for text in ("3jzfcijpj2z21", "0000000000000", "3jzfcijpj2z2aa", "3jzfcijpj2z2", "kjzfcijpj2z2a", "self"):
        assert tid_microseconds(text) is None, text
    assert go_time(0) == "1970-01-01 00:00:00 +0000 UTC"
    assert go_time(2**53 - 1) == "2255-06-05 23:47:34.740991 +0000 UTC"
    assert is_did(DID)
    assert is_did("did:web:example.com")
    assert not any(map(is_did, ("did:plc:", "did:METHOD:x", "plc:x", "did:plc:a b", "did:plc:x:", "did:plc:x\n")))
    assert is_handle("alice.bsky.social")
    assert not any(
        map(is_handle, ("alice", "a_b.com", ".com", "a..b", "x." + "a" * 64, "alice.bsky.social\n", "1.2.3.4"))
    )
