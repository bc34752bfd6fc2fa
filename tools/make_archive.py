"""Make a synthetic bskyarchive archive: the schema, the stored types and the look of a real one.

    python tools/make_archive.py demo.db --posts 2500 --seed 7
    python tools/make_archive.py large.db --posts 1000000 --authors 500 --wal
    python tools/make_archive.py hard.db --posts 5000 --offset-share 0.1 --ties 1201 --big-post 20000000
    python tools/make_archive.py book.db --posts 3000 --reading --media

The archive is what an archiver leaves after three crawls: the first saves the oldest posts, the later two what
was posted since, each newest first and in pages whose posts arrive slightly out of order. Up to a million
posts lie about five minutes apart; more posts lie closer, so that an archive never spans more than ten years.

The same arguments make the same rows on every Python from 3.11 on: all choices come from one seeded
`random.Random`, no time is read from the clock, and no order depends on a hash.

A post is written the moment it is made and then forgotten, so memory does not grow with the number of posts.
Indexes and the full-text table are built after the last post. The archive grows under a temporary name beside
PATH and is renamed when it is complete.

Exit status: 0 made, 1 could not be written, 2 wrong usage or PATH exists.
"""

import argparse
import base64
import bisect
import hashlib
import itertools
import json
import random
import sqlite3
import struct
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from skyexport.repository.tables import (
    CREATED_AT_INDEX,
    EXPORTS_TABLE,
    FULL_TEXT,
    INDEXES,
    QUOTE_COUNT_COLUMN,
    SCHEMA_VERSION,
    TABLES,
)

# --- Times ------------------------------------------------------------------------------------------------------

SECOND_MS = 1_000
DAY_MS = 86_400 * SECOND_MS
TEN_YEARS_MS = 3_652 * DAY_MS
DENSE_POSTS = 1_000_000  # an archive of this many posts, or more, spans the ten years; a smaller one less
NEWEST_MS = 1_761_825_600_000  # 2025-10-30 12:00:00 UTC
FIRST_CRAWL_NS = 1_761_984_000_000_000_000  # 2025-11-01 08:00:00 UTC
DAY_NS = 86_400 * 1_000_000_000
SAVE_NS = 700_000  # the archiver saves a post in about this time
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

UTC_STAMP = (0, "+0000 UTC")
OFFSET_STAMPS = (
    (9 * 3600, "+0900 +0900"),
    (-7 * 3600, "-0700 PDT"),
    (5 * 3600 + 1800, "+0530 +0530"),
    (2 * 3600, "+0200 CEST"),
)


@lru_cache(maxsize=64)
def day_text(day: int) -> str:
    """The date `day` days after 1970-01-01, as `2024-05-22`."""
    return date.fromordinal(EPOCH_ORDINAL + day).isoformat()


def go_time(seconds: int, fraction: str, zone: str) -> str:
    """A time as Go prints it; `fraction` holds the digits after the point, whose trailing zeros go away."""
    day, second = divmod(seconds, 86_400)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    digits = fraction.rstrip("0")
    point = "." if digits else ""
    return f"{day_text(day)} {hour:02d}:{minute:02d}:{second:02d}{point}{digits} {zone}"


def created_at_text(instant_ms: int, stamp: tuple[int, str]) -> str:
    """The stored `created_at`: the wall clock of the stamp's offset, to the millisecond."""
    seconds, milliseconds = divmod(instant_ms, SECOND_MS)
    offset_seconds, zone = stamp
    return go_time(seconds + offset_seconds, f"{milliseconds:03d}", zone)


def clock_reading_text(instant_ns: int, running_ns: int) -> str:
    """The stored `indexed_at` or `archived_at`: the archiver's clock, with its monotonic reading."""
    seconds, nanoseconds = divmod(instant_ns, 1_000_000_000)
    running_seconds, running_nanoseconds = divmod(running_ns, 1_000_000_000)
    zone = f"+0000 UTC m=+{running_seconds}.{running_nanoseconds:09d}"
    return go_time(seconds, f"{nanoseconds:09d}", zone)


# --- Identifiers ------------------------------------------------------------------------------------------------

BASE32 = b"abcdefghijklmnopqrstuvwxyz234567"
BASE32_SORTED = "234567abcdefghijklmnopqrstuvwxyz"
BASE32_OF_BYTE = BASE32 * 8
TID_SCATTER = 389_471  # coprime with TIDS_PER_MS: scatters the posts of one millisecond, each to its own tid
TIDS_PER_MS = 1_000 * 1_024  # microseconds times clock identifiers


def base32_text(rng: random.Random, length: int) -> str:
    """`length` random characters of the alphabet of DIDs and CIDs."""
    return rng.randbytes(length).translate(BASE32_OF_BYTE).decode("ascii")


def random_did(rng: random.Random) -> str:
    return f"did:plc:{base32_text(rng, 24)}"


def random_post_uri(rng: random.Random, did: str) -> str:
    """The address of some post of `did`, most likely not in the archive."""
    return f"at://{did}/app.bsky.feed.post/3l{base32_text(rng, 11)}"


def post_uri(did: str, instant_ms: int, number: int) -> str:
    """The address of a post of the archive: its tid holds the instant and differs for every `number`."""
    clock_id, microseconds = divmod(number * TID_SCATTER % TIDS_PER_MS, 1_000)
    tid = (instant_ms * 1_000 + microseconds) << 10 | clock_id
    tid_text = "".join([BASE32_SORTED[tid >> shift & 31] for shift in range(60, -1, -5)])
    return f"at://{did}/app.bsky.feed.post/{tid_text}"


class Authors:
    """The owner, who wrote nearly everything, and the others whose posts the owner reposted."""

    OWNER_SHARE = 0.94

    def __init__(self, rng: random.Random, count: int) -> None:
        self._rng = rng
        self.owner_did = random_did(rng)
        self._other_dids = [random_did(rng) for _ in range(count - 1)]
        self._rank_sums = list(itertools.accumulate(1 / rank for rank in range(1, count)))

    def did(self) -> str:
        """The author of the next post; among the others, rank r writes 1/r as much as the first."""
        if not self._other_dids or self._rng.random() < self.OWNER_SHARE:
            return self.owner_did
        return self._other_dids[bisect.bisect(self._rank_sums, self._rng.random() * self._rank_sums[-1])]


# --- Texts ------------------------------------------------------------------------------------------------------


class Language(NamedTuple):
    """How the phrases of one language are put together."""

    share: int  # of a hundred posts
    space: str
    words: str


LANGUAGES = (
    Language(
        50,
        " ",
        "the a of and to in is it was that this for on with as are be not but they from have had one all there "
        "what so up out if about who get which go me when make like no just him know take people into year your "
        "good some could them see other than then now look only come over think also back after use two how our "
        "work first well way even new want because any these give day most us morning coffee garden train window "
        "river library teacher mountain bicycle thunder quiet orange kitchen signal notebook weather harbour song "
        "music paper lantern museum ticket winter summer autumn spring market castle bridge forest island camera "
        "don't it's you're we've couldn't café naïve résumé 42 1999 3.5 100% & <3 C++ rock'n'roll (really) [sic]",
    ),
    Language(
        12,
        " ",
        "der die das und ist nicht über für schön größer Straße Grüße heute Abend vielleicht Fußgänger mañana el "
        "niño corazón también después señora ação não você coração où être déjà français garçon œuvre ça était "
        "łódź żółty świat český příliš kůň İstanbul güneş çiçek smörgås ångström tiếng Việt người à è ñ ß ø æ",
    ),
    Language(
        12,
        "",
        "今日 は いい 天気 です ね 東京 の 夜 桜 が 咲い た 猫 と 犬 本 を 読む コーヒー 駅 まで 歩く 「 」 。 、 !? "
        "ありがとう ございます 写真 展 山 海 空 雨 新しい 音楽 カメラ ラーメン 美味しい 電車 週末 に 行こ う 中文 你好",
    ),
    Language(
        6,
        " ",
        "привет мир сегодня хорошая погода утром кофе книга поезд город река зима лето музыка спасибо друзья вечер "
        "ёлка съезд їжак ґанок україна нова фотографія думаю почему завтра",
    ),
    Language(
        5,
        " ",
        "안녕하세요 세계 오늘 날씨 좋다 커피 고양이 강아지 서울 밤 음악 사진 책 "
        "기차 여행 감사합니다 주말 바다 산 하늘 비",
    ),
    Language(
        5,
        " ",
        "مرحبا بالعالم اليوم صباح الخير القهوة كتاب مدينة نهر شتاء صيف موسيقى شكرا أصدقاء مساء قِطَّة ١٢٣ שלום עולם "
        "בוקר טוב ספר תודה",
    ),
    Language(4, " ", "नमस्ते दुनिया आज मौसम अच्छा है किताब चाय शहर नदी संगीत धन्यवाद दोस्त शाम क्षत्रिय สวัสดี ชาวโลก ขอบคุณ น้ำ"),
    Language(
        6,
        " ",
        "😀 😂 🎉 🚀 ✨ ❤️ 🔥 👍🏽 🐈‍⬛ 👩‍👩‍👧‍👦 👨🏿‍💻 🏳️‍🌈 🇯🇵 🇧🇷 1️⃣ 🤷🏻‍♀️ "
        "e\u0301te\u0301 n\u0303andu\u0301 a\u030a\u0323 Z\u0351\u036b\u0343algo o\u0308ffnen "
        "\u1112\u1161\u11ab\u1100\u1173\u11af wow yes ok mood same",
    ),
)

SEPARATORS = (" ",) * 9 + (", ", ". ", "! ", " — ", "; ", "\n", "\n", "\n\n", "\t", "\r\n")
HASHTAGS = (
    "#photography",
    "#caturday",
    "#NowPlaying",
    "#日本",
    "#музыка",
    "#art",
    "#bookstodon",
    "#100daysofcode",
)
SITES = ("example.com", "example.org", "news.example.net", "blog.example.com", "例え.example")
ODD_TEXTS = (
    "\\.",
    '"',
    ",",
    " ",
    "\n",
    '""',
    "'",
    "\\",
    "\u00a0nbsp first",
    "\ttab first",
    "…",
    "line\u2028break",
)
WALL_EMOJI = ("👩‍👩‍👧‍👦", "🏳️‍🌈", "🤷🏻‍♀️", "😀")

PHRASES_PER_LANGUAGE = 1_500
TEXT_LIMIT = 300  # graphemes, Bluesky's limit for a post


class Texts:
    """Texts of posts, alternative texts and titles, made of phrases that are put together once."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._phrases = [self._make_phrases(language) for language in LANGUAGES]
        self._share_sums = list(itertools.accumulate(language.share for language in LANGUAGES))

    def _make_phrases(self, language: Language) -> list[str]:
        words = language.words.split()
        phrases = []
        for _ in range(PHRASES_PER_LANGUAGE):
            phrase = language.space.join(self._pick(words) for _ in range(2 + self._rng.randrange(7)))
            phrases.append(f'"{phrase}"' if self._rng.random() < 0.03 else phrase)
        return phrases

    def _pick(self, choices: Sequence[str]) -> str:
        return choices[int(self._rng.random() * len(choices))]

    def post(self) -> str:
        """The text of a post: at most 300 graphemes, about 100 characters on average, sometimes odd."""
        chance = self._rng.random()
        if chance < 0.002:
            return self._pick(ODD_TEXTS)
        if chance < 0.0025:
            return self._pick(WALL_EMOJI) * (1 + self._rng.randrange(TEXT_LIMIT))
        text = self.prose(TEXT_LIMIT)
        if chance < 0.04:
            text = f"@{base32_text(self._rng, 8)}.bsky.social {text}"
        elif chance < 0.10:
            text = f"{text} {self.link()}"
        elif chance < 0.17:
            text = f"{text} {self._pick(HASHTAGS)} {self._pick(HASHTAGS)}"
        elif chance < 0.18:
            text = f"{text} C:\\temp\\{base32_text(self._rng, 6)}.txt"
        elif chance < 0.185:
            text = f" {text}"
        return text if len(text) <= TEXT_LIMIT else self.prose(TEXT_LIMIT)

    def prose(self, limit: int) -> str:
        """Phrases of one language, at most `limit` characters; short ones are more frequent."""
        chance = self._rng.random
        phrases = self._phrases[bisect.bisect(self._share_sums, int(chance() * self._share_sums[-1]))]
        wanted = limit * chance() * chance() * 1.5
        text = self._pick(phrases)
        while len(text) < wanted:
            longer = text + self._pick(SEPARATORS) + self._pick(phrases)
            if len(longer) > limit:
                break
            text = longer
        return text if len(text) <= limit else text[:limit]

    def link(self) -> str:
        """A web address, with a query whose ampersand is escaped wherever JSON holds it."""
        return f"https://{self._pick(SITES)}/{base32_text(self._rng, 8)}?a=1&b=2"


# --- Embeds and labels ------------------------------------------------------------------------------------------

NULL_JSON = b"null"
CDN = "https://cdn.bsky.app/img"
QUOTED_AUTHORS = 1_000


def go_json(text: str) -> str:
    """A JSON string as Go writes it: not ASCII only, but safe inside HTML."""
    quoted = json.dumps(text, ensure_ascii=False)
    for character in "&<>\u2028\u2029":
        if character in quoted:
            quoted = quoted.replace(character, f"\\u{ord(character):04x}")
    return quoted


class Embed(NamedTuple):
    """The three columns that an embed fills."""

    kind: str
    json: bytes
    has_media: int


NO_EMBED = Embed("", NULL_JSON, 0)


class Embeds:
    """Embeds of the four kinds and labels, in the shapes that the archiver stores."""

    def __init__(self, rng: random.Random, texts: Texts) -> None:
        self._rng = rng
        self._texts = texts
        self._quoted_authors = [self._make_quoted_author() for _ in range(QUOTED_AUTHORS)]

    def _make_quoted_author(self) -> tuple[str, str]:
        """A DID and the JSON that a quoted post holds about its author."""
        did = random_did(self._rng)
        return did, (
            f'{{"did":"{did}","handle":"{base32_text(self._rng, 9)}.bsky.social",'
            f'"displayName":{go_json(self._texts.prose(40))},'
            f'"avatar":"{CDN}/avatar/plain/{did}/{self._image_cid()}@jpeg",'
            f'"labels":[],"createdAt":"2024-11-12T01:02:03.456Z"}}'
        )

    def _image_cid(self) -> str:
        return f"bafkrei{base32_text(self._rng, 52)}"

    def stranger_did(self) -> str:
        """Someone whose posts are quoted and answered, but not archived."""
        return self._quoted_authors[int(self._rng.random() * QUOTED_AUTHORS)][0]

    def embed(self, did: str) -> Embed:
        """The embed of a post of `did`; four posts in seven have none."""
        chance = self._rng.random()
        if chance < 0.57:
            return NO_EMBED
        if chance < 0.78:
            return Embed("images", self._images(did).encode(), 1)
        if chance < 0.91:
            has_thumb = self._rng.random() < 0.8
            return Embed("external", self._external(did, has_thumb).encode(), int(has_thumb))
        if chance < 0.975:
            record = f'{{"$type":"app.bsky.embed.record#view","record":{self._quoted_post()}}}'
            return Embed("record", record.encode(), 0)
        both = (
            f'{{"$type":"app.bsky.embed.recordWithMedia#view","media":{self._images(did)},'
            f'"record":{{"record":{self._quoted_post()}}}}}'
        )
        return Embed("record_with_media", both.encode(), 1)

    def _images(self, did: str) -> str:
        count = 1 if self._rng.random() < 0.7 else 2 + self._rng.randrange(3)
        images = ",".join([self._image(did) for _ in range(count)])
        return f'{{"$type":"app.bsky.embed.images#view","images":[{images}]}}'

    def _image(self, did: str) -> str:
        alt = "" if self._rng.random() < 0.5 else self._texts.prose(250)
        name = f"{did}/{self._image_cid()}@jpeg"
        height, width = 200 + self._rng.randrange(1_800), 200 + self._rng.randrange(1_800)
        return (
            f'{{"alt":{go_json(alt)},"aspectRatio":{{"height":{height},"width":{width}}},'
            f'"fullsize":"{CDN}/feed_fullsize/plain/{name}","thumb":"{CDN}/feed_thumbnail/plain/{name}"}}'
        )

    def _external(self, did: str, has_thumb: bool) -> str:
        thumb = f',"thumb":"{CDN}/feed_thumbnail/plain/{did}/{self._image_cid()}@jpeg"' if has_thumb else ""
        return (
            f'{{"$type":"app.bsky.embed.external#view","external":{{'
            f'"description":{go_json(self._texts.prose(300))},"title":{go_json(self._texts.prose(80))},'
            f'"uri":{go_json(self._texts.link())}{thumb}}}}}'
        )

    def _quoted_post(self) -> str:
        did, author = self._quoted_authors[int(self._rng.random() * QUOTED_AUTHORS)]
        cid = f"bafyrei{base32_text(self._rng, 52)}"
        uri = random_post_uri(self._rng, did)
        if self._rng.random() < 0.2:
            return f'{{"cid":"{cid}","uri":"{uri}"}}'
        likes = self._rng.getrandbits(10)
        return (
            f'{{"$type":"app.bsky.embed.record#viewRecord","author":{author},"cid":"{cid}","embeds":[],'
            f'"indexedAt":"2025-01-02T03:04:05.678Z","labels":[],"likeCount":{likes},"quoteCount":0,'
            f'"replyCount":{likes % 11},"repostCount":{likes // 9},"uri":"{uri}",'
            f'"value":{{"$type":"app.bsky.feed.post","createdAt":"2025-01-02T03:04:05.678Z","langs":["en"],'
            f'"text":{go_json(self._texts.post())}}}}}'
        )

    def labels(self, did: str) -> bytes:
        """Mostly `null`; otherwise a list of labels, an object, or a bare string."""
        chance = self._rng.random()
        if chance >= 0.03:
            return NULL_JSON
        if chance >= 0.01:
            label = f'[{{"cts":"2025-01-01T00:00:00.000Z","src":"{did}","uri":"x","val":"porn"}}]'
        elif chance >= 0.003:
            label = '{"$type":"com.atproto.label.defs#selfLabels","values":[{"val":"nudity"}]}'
        else:
            label = '"sexual"'
        return label.encode()


# --- Posts ------------------------------------------------------------------------------------------------------

POST_COLUMNS = (
    "uri",
    "cid",
    "did",
    "text",
    "created_at",
    "indexed_at",
    "has_media",
    "like_count",
    "repost_count",
    "reply_count",
    "quote_count",
    "is_reply",
    "reply_parent",
    "embed_type",
    "embed_data",
    "labels",
    "archived_at",
)

PostRow = tuple[
    str, str, str, str, str, str, int, int, int, int, int, int, str, str, bytes, bytes, str
]  # in the order of POST_COLUMNS

CRAWLS = ((40, 100), (10, 40), (0, 10))  # the posts a crawl saves, in percent counted from the newest
CRAWL_PAGE_POSTS = 100
SHUFFLED_PAGES_SHARE = 0.3
NATURAL_TIES_SHARE = 0.001  # posts that share the instant of the post before, hence 0.2 % in a tie
WHOLE_SECOND_SHARE = 0.02


@dataclass(frozen=True)
class Timeline:
    """When the posts were written; position 0 is the newest post."""

    posts: int
    ties: int

    @property
    def interval_ms(self) -> int:
        """The mean distance of two neighbours."""
        return TEN_YEARS_MS // max(self.posts, DENSE_POSTS)

    @property
    def tied(self) -> range:
        """The positions of the posts that `ties` asks for, in the middle."""
        first = (self.posts - self.ties) // 2
        return range(first, first + self.ties)

    @property
    def middle_ms(self) -> int:
        """The instant of the tied posts; its milliseconds, .254, keep it apart from posts at whole seconds."""
        middle_ms = NEWEST_MS - self.tied.start * self.interval_ms
        return middle_ms - middle_ms % SECOND_MS - 746

    def crawled(self, rng: random.Random) -> Iterator[tuple[int, int, bool]]:
        """Every post in the order it is saved: the number of its crawl, its instant, whether it is tied."""
        for crawl, (newest_percent, oldest_percent) in enumerate(CRAWLS):
            end = self.posts * oldest_percent // 100
            for start in range(self.posts * newest_percent // 100, end, CRAWL_PAGE_POSTS):
                page = list(self._instants(rng, range(start, min(start + CRAWL_PAGE_POSTS, end))))
                if rng.random() < SHUFFLED_PAGES_SHARE:
                    page.sort(key=lambda _: rng.random())
                for instant_ms, is_tied in page:
                    yield crawl, instant_ms, is_tied

    def _instants(self, rng: random.Random, positions: range) -> Iterator[tuple[int, bool]]:
        interval_ms, tied, middle_ms = self.interval_ms, self.tied, self.middle_ms
        instant_ms = middle_ms
        for position in positions:
            if position in tied:
                instant_ms = middle_ms
                yield instant_ms, True
                continue
            chance = rng.random()
            if chance >= NATURAL_TIES_SHARE or instant_ms == middle_ms:
                instant_ms = NEWEST_MS - position * interval_ms - int(rng.random() * interval_ms)
                if chance > 1 - WHOLE_SECOND_SHARE:
                    instant_ms -= instant_ms % SECOND_MS
            yield instant_ms, False


class Posts:
    """Makes the rows of the posts table, one at a time."""

    def __init__(self, rng: random.Random, authors: Authors, offset_share: float) -> None:
        self._rng = rng
        self._authors = authors
        self._offset_share = offset_share
        self._texts = Texts(rng)
        self._embeds = Embeds(rng, self._texts)

    def rows(self, timeline: Timeline) -> Iterator[PostRow]:
        """The rows in the order they are saved."""
        for number, (crawl, instant_ms, is_tied) in enumerate(timeline.crawled(self._rng)):
            stamp = UTC_STAMP if is_tied else self._stamp()
            yield self._row(number, crawl, instant_ms, stamp, self._authors.did())

    def big_row(self, timeline: Timeline) -> PostRow:
        """The last row: a post of the owner right after the middle, whose text is still empty."""
        instant_ms = timeline.middle_ms + 1
        row = self._row(timeline.posts, len(CRAWLS), instant_ms, UTC_STAMP, self._authors.owner_did)
        return (*row[:3], "", *row[4:])

    def _stamp(self) -> tuple[int, str]:
        if self._offset_share and self._rng.random() < self._offset_share:
            return OFFSET_STAMPS[self._rng.randrange(len(OFFSET_STAMPS))]
        return UTC_STAMP

    def _row(self, number: int, crawl: int, instant_ms: int, stamp: tuple[int, str], did: str) -> PostRow:
        rng = self._rng
        embed = self._embeds.embed(did)
        is_textless = embed.kind == "images" and rng.random() < 0.1
        is_reply = rng.random() < 0.35
        likes = rng.getrandbits(min(rng.getrandbits(4), rng.getrandbits(4)))
        running_ns = 10_000_000_000 + number * SAVE_NS + rng.getrandbits(19)
        saved_ns = FIRST_CRAWL_NS + crawl * DAY_NS + running_ns
        return (
            post_uri(did, instant_ms, number),
            f"bafyrei{base32_text(rng, 52)}",
            did,
            "" if is_textless else self._texts.post(),
            created_at_text(instant_ms, stamp),
            clock_reading_text(saved_ns, running_ns),
            embed.has_media,
            likes,
            likes >> 3,
            likes >> 4,
            likes >> 6,
            int(is_reply),
            random_post_uri(rng, self._embeds.stranger_did()) if is_reply else "",
            embed.kind,
            embed.json,
            self._embeds.labels(did),
            clock_reading_text(saved_ns + 1_500, running_ns + 1_000),
        )


def insert_post_sql(schema_version: int) -> str:
    """The statement that saves a `named` post; version 1 has no column for its quote_count."""
    columns = [column for column in POST_COLUMNS if column != "quote_count" or schema_version > 1]
    return f"insert into posts ({', '.join(columns)}) values (:{', :'.join(columns)})"


def named(row: PostRow) -> dict[str, str | int | bytes]:
    """A row by the names of its columns: Python 3.14 takes numbered places of SQL no longer, and warns before."""
    return dict(zip(POST_COLUMNS, row, strict=True))


# --- The big post -----------------------------------------------------------------------------------------------

BIG_TEXT_UNIT = 'All work and no play? Ça ira, größer 東京 👩‍👩‍👧‍👦 "quoted", C:\\path &c.\n'.encode()
BIG_TEXT_CHUNK = BIG_TEXT_UNIT * (65_536 // len(BIG_TEXT_UNIT))


def write_big_text(connection: sqlite3.Connection, rowid: int, size_bytes: int) -> None:
    """Give the post in `rowid` a text of exactly `size_bytes` bytes, written in place in chunks."""
    connection.execute("update posts set text = cast(zeroblob(?) as text) where rowid = ?", (size_bytes, rowid))
    with connection.blobopen("posts", "text", rowid) as blob:
        for _ in range(size_bytes // len(BIG_TEXT_CHUNK)):
            blob.write(BIG_TEXT_CHUNK)
        rest_bytes = size_bytes % len(BIG_TEXT_CHUNK)
        whole_characters = BIG_TEXT_CHUNK[:rest_bytes].decode(errors="ignore").encode()
        blob.write(whole_characters.ljust(rest_bytes, b"."))


# --- Media ------------------------------------------------------------------------------------------------------

MEDIA_SHARE = 0.2  # of the posts with images
MISSING_MEDIA_FILES = 2
MEDIA_SAVED_AT = "2025-11-01 08:00:00 +0000 UTC"
JPEG_HEAD = bytes.fromhex("ffd8ffe000104a46494600010100000100010000fffe")
JPEG_TAIL = bytes.fromhex("ffd9")


def write_media(connection: sqlite3.Connection, folder: Path, rng: random.Random) -> int:
    """Add media rows for some posts with images, and their files below `folder` except the first two.

    Returns:
        The number of files written.
    """
    files = 0
    uris = connection.execute("select uri from posts where embed_type = 'images' order by rowid")
    chosen_uris = (uri for (uri,) in uris if rng.random() < MEDIA_SHARE)
    for number, uri in enumerate(chosen_uris):
        content = JPEG_HEAD + rng.randbytes(150 + rng.randrange(300)) + JPEG_TAIL
        digest = hashlib.sha256(content).hexdigest()
        file_path = f"media/{digest[:2]}/{digest[2:4]}/{digest}.jpg"
        connection.execute(
            "insert into media values (?, ?, 'image/jpeg', ?, ?, 100, 100, 'alt', ?)",
            (digest, uri, file_path, len(content), MEDIA_SAVED_AT),
        )
        if number >= MISSING_MEDIA_FILES:
            file = folder / file_path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            files += 1
    return files


# --- For reading ------------------------------------------------------------------------------------------------

READER_NAMES = ("Ada Harbour", "Béla 🌲", "中村 さくら", "Dr. Éloïse O’Neil", "يوسف", "Finn")
READER_HANDLES = (
    "ada.example.com",
    "bela.bsky.social",
    "sakura.example.org",
    "eloise.bsky.social",
    "yusuf.bsky.social",
)
THREAD_SHARE = 0.08  # of the owner's posts begin a thread of the owner's own
THREAD_SECONDS = (20, 90)  # between two posts of a thread
LIKED_SHARE = 0.01  # of the posts are known to many
PICTURE_SIZES = ((160, 120), (120, 160), (200, 112), (100, 100))


class Picture(NamedTuple):
    """A small image, a colour that fades, as a PNG file."""

    content: bytes
    width: int
    height: int

    @classmethod
    def random(cls, rng: random.Random) -> "Picture":
        width, height = PICTURE_SIZES[rng.randrange(len(PICTURE_SIZES))]
        red, green, blue = (40 + rng.randrange(180) for _ in range(3))
        palette = b"".join(bytes((red, green * step // 256, (blue + step // 2) % 256)) for step in range(256))
        rows = b"".join(b"\0" + bytes((256 * row // height,)) * width for row in range(height))
        # Not compressed: versions of zlib differ in the bytes that they make.
        parts = (rows[start : start + 65_535] for start in range(0, len(rows), 65_535))
        stored = b"".join(struct.pack("<BHH", 0, len(part), len(part) ^ 0xFFFF) + part for part in parts)
        data = b"\x78\x01" + stored + b"\x01\x00\x00\xff\xff" + struct.pack(">I", zlib.adler32(rows))
        head = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
        chunks = ((b"IHDR", head), (b"PLTE", palette), (b"IDAT", data), (b"IEND", b""))
        content = b"".join(
            struct.pack(">I", len(inner)) + kind + inner + struct.pack(">I", zlib.crc32(kind + inner))
            for kind, inner in chunks
        )
        return cls(b"\x89PNG\r\n\x1a\n" + content, width, height)

    @property
    def cid(self) -> str:
        """As text."""
        raw = b"\x01\x55\x12\x20" + hashlib.sha256(self.content).digest()
        return "b" + base64.b32encode(raw).decode().rstrip("=").lower()


class Reading:
    """An archive to be read by people: ten years of one owner, with threads, answers, quotes and images.

    Posts are made in the order in which they were written, since they refer to each other, and saved by crawls, newest
    first, as in any archive. All of them are in memory.
    """

    def __init__(self, rng: random.Random, people: Authors, posts: int) -> None:
        self._rng = rng
        self._texts = Texts(rng)
        self._embeds = Embeds(rng, self._texts)
        self._dids = [people.owner_did, *(random_did(rng) for _ in READER_NAMES[1:])]
        self._posts = posts
        self.pictures: list[tuple[str, Picture, str]] = []
        """URI of the post, image, alt text."""
        self._made: list[PostRow] = []

    def rows(self) -> Iterator[PostRow]:
        """The rows in the order they are saved."""
        self._write()
        for newest_percent, oldest_percent in CRAWLS:
            last, first = (self._posts - self._posts * share // 100 for share in (newest_percent, oldest_percent))
            yield from reversed(self._made[first:last])

    def profiles(self) -> Iterator[tuple[str | int, ...]]:
        """Rows of profiles: the owner's handle and name changed twice, another's once; one author has none."""
        snapshots = (
            (0, "ada.bsky.social", "Ada", 2017), (0, "ada.bsky.social", "Ada Harbour", 2020),
            (0, READER_HANDLES[0], READER_NAMES[0], 2025), (1, "bela.example.net", "Béla", 2021),
            *((n, READER_HANDLES[n], READER_NAMES[n], 2025) for n in range(1, len(READER_HANDLES))),
        )  # fmt: skip
        for author, handle, name, year in snapshots:
            about = f"{self._texts.prose(120)}\nhttps://example.com/{handle}"
            time = f"{year}-11-01 08:00:01.5 +0000 UTC m=+1.500000000"
            yield (self._dids[author], handle, name, about, "", "", 1234, 321, self._posts, time)

    def _write(self) -> None:
        rng, interval_ms = self._rng, TEN_YEARS_MS // max(self._posts, 1)
        left, instant_ms = 0, 0
        for number in range(self._posts):
            did = self._dids[0] if left or rng.random() < 0.9 else self._dids[1 + rng.randrange(len(self._dids) - 1)]
            parent = self._made[-1][0] if left else ""
            if left:
                left -= 1
                instant_ms += SECOND_MS * rng.randrange(*THREAD_SECONDS)
            else:
                instant_ms = max(instant_ms + SECOND_MS, NEWEST_MS - (self._posts - number) * interval_ms)
                instant_ms += int(rng.random() * interval_ms * 0.8)
                parent = self._answered()
                if not parent and did == self._dids[0] and rng.random() < THREAD_SHARE:
                    left = 1 + rng.randrange(7)
            self._made.append(self._row(number, instant_ms, did, parent))

    def _answered(self) -> str:
        """The URI of a post that is there, of one that is not, or of none."""
        chance = self._rng.random()
        if chance < 0.12 and self._made:
            return self._made[-1 - self._rng.randrange(min(300, len(self._made)))][0]
        return random_post_uri(self._rng, self._embeds.stranger_did()) if chance < 0.25 else ""

    def _row(self, number: int, instant_ms: int, did: str, parent: str) -> PostRow:
        rng = self._rng
        uri = post_uri(did, instant_ms, number)
        embed = self._embed(did, uri)
        likes = rng.randrange(200, 5000) if rng.random() < LIKED_SHARE else rng.randrange(1 + rng.randrange(40))
        saved = clock_reading_text(FIRST_CRAWL_NS + number * SAVE_NS, 10_000_000_000 + number * SAVE_NS)
        textless = embed.kind == "images" and rng.random() < 0.1
        return (
            uri, f"bafyrei{base32_text(rng, 52)}", did, "" if textless else self._text(),
            created_at_text(instant_ms, UTC_STAMP), saved, embed.has_media, likes, likes >> 3, likes >> 4, likes >> 6,
            int(bool(parent)), parent, embed.kind, embed.json, self._embeds.labels(did), saved,
        )  # fmt: skip

    def _text(self) -> str:
        """Words, and what readers click: links with and without a scheme, mentions, tags."""
        rng, text = self._rng, self._texts.post()
        extra = (
            f"https://{SITES[0]}/{base32_text(rng, 6)}?q=a&b=%20c#part", f"{SITES[3]}/{base32_text(rng, 5)}",
            f"@{READER_HANDLES[rng.randrange(len(READER_HANDLES))]}", f"@{base32_text(rng, 8)}.bsky.social",
            HASHTAGS[rng.randrange(len(HASHTAGS))], "#日記", "(see https://example.org/a_(b)).",
        )  # fmt: skip
        for _ in range(rng.randrange(4)):
            text = f"{text}{' ' if rng.random() < 0.7 else chr(10)}{extra[rng.randrange(len(extra))]}"
        return text if len(text) <= TEXT_LIMIT else self._texts.prose(TEXT_LIMIT)

    def _embed(self, did: str, uri: str) -> Embed:
        chance = self._rng.random()
        if chance < 0.6:
            return NO_EMBED
        if chance < 0.78:
            return Embed("images", self._images(did, uri).encode(), 1)
        if chance < 0.86:
            return Embed("external", self._embeds._external(did, True).encode(), 1)
        if chance < 0.95:
            return Embed("record", f'{{"$type":"app.bsky.embed.record#view","record":{self._quoted()}}}'.encode(), 0)
        if chance < 0.98:
            both = f'{{"$type":"app.bsky.embed.recordWithMedia#view","media":{self._images(did, uri)},'
            return Embed("record_with_media", f'{both}"record":{{"record":{self._quoted()}}}}}'.encode(), 1)
        cid = f"bafkrei{base32_text(self._rng, 52)}"
        place = f"https://video.bsky.app/watch/{did.replace(':', '%3A')}/{cid}"
        video = {"$type": "app.bsky.embed.video#view", "alt": self._texts.prose(60), "cid": cid}
        addresses = {"playlist": f"{place}/playlist.m3u8", "thumbnail": f"{place}/thumbnail.jpg"}
        return Embed("video", json.dumps({**video, **addresses}, ensure_ascii=False).encode(), 1)

    def _images(self, did: str, uri: str) -> str:
        images = []
        for _ in range(1 if self._rng.random() < 0.7 else 2 + self._rng.randrange(3)):
            picture = Picture.random(self._rng)
            alt = "" if self._rng.random() < 0.3 else self._texts.prose(180)
            self.pictures.append((uri, picture, alt))
            name = f"{did}/{picture.cid}@jpeg"
            images.append(
                f'{{"alt":{go_json(alt)},"aspectRatio":{{"height":{picture.height},"width":{picture.width}}},'
                f'"fullsize":"{CDN}/feed_fullsize/plain/{name}","thumb":"{CDN}/feed_thumbnail/plain/{name}"}}'
            )
        return f'{{"$type":"app.bsky.embed.images#view","images":[{",".join(images)}]}}'

    def _quoted(self) -> str:
        """A post of the archive, a stranger's, or one that is gone."""
        chance = self._rng.random()
        if chance < 0.5 and self._made:
            row = self._made[self._rng.randrange(len(self._made))]
            return (
                f'{{"$type":"app.bsky.embed.record#viewRecord","author":{{"did":"{row[2]}","handle":"someone.example"}},'
                f'"cid":"{row[1]}","indexedAt":"2025-01-02T03:04:05.678Z","uri":"{row[0]}",'
                f'"value":{{"$type":"app.bsky.feed.post","text":{go_json(row[3])}}}}}'
            )
        if chance < 0.85:
            return self._embeds._quoted_post()
        gone = random_post_uri(self._rng, self._embeds.stranger_did())
        return f'{{"$type":"app.bsky.embed.record#viewNotFound","notFound":true,"uri":"{gone}"}}'


def write_pictures(connection: sqlite3.Connection, folder: Path, pictures: Sequence[tuple[str, Picture, str]]) -> int:
    """Add a media row for each image, and its file below `folder`, except the first two.

    Returns:
        The number of files written.
    """
    files = 0
    for number, (uri, picture, alt) in enumerate(pictures):
        digest = hashlib.sha256(picture.content).hexdigest()
        file_path = f"media/{digest[:2]}/{digest[2:4]}/{digest}.png"
        connection.execute(
            "insert or ignore into media values (?, ?, 'image/png', ?, ?, ?, ?, ?, ?)",
            (digest, uri, file_path, len(picture.content), picture.width, picture.height, alt, MEDIA_SAVED_AT),
        )
        if number >= MISSING_MEDIA_FILES:
            file = folder / file_path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture.content)
            files += 1
    return files


# --- The archive ------------------------------------------------------------------------------------------------

ACCESS_TOKEN = "canary-access-token"
REFRESH_TOKEN = "canary-refresh-token"
SQLITE_SIDE_FILES = ("-journal", "-wal", "-shm")
CACHE_KIB = 256 * 1024  # holds the primary key of a million posts, which do not arrive in its order


@dataclass(frozen=True)
class ArchiveInfo:
    """The archive that was made; `media_files` counts the media files on disk."""

    path: Path
    posts: int
    owner_did: str
    media_files: int


def make_archive(
    path: str | Path,
    *,
    posts: int,
    seed: int = 1,
    authors: int = 200,
    wal: bool = False,
    offset_share: float = 0.0,
    index: bool = True,
    big_post_bytes: int = 0,
    media: bool = False,
    ties: int = 0,
    schema_version: int = SCHEMA_VERSION,
    fts: bool = True,
    reading: bool = False,
    force: bool = False,
) -> ArchiveInfo:
    """Make a synthetic archive at `path`; missing parent folders are made.

    Args:
        path: where the archive goes; media files go to `media/` beside it.
        posts: how many posts, not counting the big one.
        seed: decides every choice; the same arguments make the same rows.
        authors: how many people wrote them: one owner, who wrote about 94 %, and others.
        wal: leave the archive in WAL mode, cleanly closed.
        offset_share: 0 to 1, the share of posts whose `created_at` has an offset other than UTC.
        index: whether to make idx_posts_created_at.
        big_post_bytes: bytes of the text of one more post; 0 for none.
        media: whether to add media rows and files, two of which are missing.
        ties: how many of the posts share the instant in the middle, all stamped UTC; at most `posts`.
        schema_version: 1 (no quote_count), 2 (no exports table) or 3.
        fts: whether to make the full-text table and its triggers.
        reading: an archive for people: ten years, threads, answers, quotes, images that can be seen, several profiles.
            Of the other arguments, those about authors, offsets, ties and the big post do not count then.
        force: replace an existing file.

    Returns:
        The archive that was made; `posts` counts the big post too.

    Raises:
        ValueError: a number is out of its range.
        FileExistsError: `path` exists and `force` is not set.
        sqlite3.Error, OSError: the archive cannot be written.
    """
    path = Path(path)
    require(posts >= 0, "posts must not be negative")
    require(authors >= 1, "authors must be at least 1")
    require(0 <= offset_share <= 1, "offset share must be between 0 and 1")
    require(big_post_bytes >= 0, "big post bytes must not be negative")
    require(0 <= ties <= posts, "ties must be between 0 and the number of posts")
    require(1 <= schema_version <= SCHEMA_VERSION, "schema version must be 1, 2 or 3")
    if path.exists() and not force:
        raise FileExistsError(f"{path} exists")

    rng = random.Random(seed)
    people = Authors(rng, authors)
    timeline = Timeline(posts, ties)
    if not reading:
        makes = Posts(rng, people, offset_share)
    media_files = 0

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(unfinished, isolation_level=None)) as connection:
            connection.execute("pragma journal_mode = off")
            connection.execute("pragma synchronous = off")
            connection.execute(f"pragma cache_size = -{CACHE_KIB}")
            connection.execute("begin")
            create_tables(connection, schema_version)
            if reading:
                read = Reading(rng, people, posts)
                connection.executemany(insert_post_sql(schema_version), map(named, read.rows()))
                connection.executemany(f"insert into profiles values ({', '.join('?' * 10)})", read.profiles())
                media_files = write_pictures(connection, path.parent, read.pictures) if media else 0
            else:
                insert_owner(connection, people.owner_did, posts)
                connection.executemany(insert_post_sql(schema_version), map(named, makes.rows(timeline)))
            if big_post_bytes and not reading:
                inserted = connection.execute(insert_post_sql(schema_version), named(makes.big_row(timeline)))
                write_big_text(connection, inserted.lastrowid or 0, big_post_bytes)
            if media and not reading:
                media_files = write_media(connection, path.parent, rng)
            connection.execute("commit")
            connection.executescript(INDEXES)
            if index:
                connection.executescript(CREATED_AT_INDEX)
            if fts:
                connection.executescript(FULL_TEXT)
            if wal:
                connection.execute("pragma journal_mode = wal")
        for suffix in SQLITE_SIDE_FILES:
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return ArchiveInfo(path, posts + bool(big_post_bytes and not reading), people.owner_did, media_files)


def require(condition: bool, message: str) -> None:
    """Raise ValueError unless the condition holds."""
    if not condition:
        raise ValueError(message)


def create_tables(connection: sqlite3.Connection, schema_version: int) -> None:
    """Create the tables of a schema version and note the versions that led to it."""
    tables = TABLES if schema_version > 1 else TABLES.replace(QUOTE_COUNT_COLUMN, "")
    for statement in tables.split(";")[:-1]:
        connection.execute(statement)
    if schema_version > 2:
        for statement in EXPORTS_TABLE.split(";")[:-1]:
            connection.execute(statement)
    connection.executemany(
        "insert into schema_version values (?, '2025-11-01 07:59:59')",
        [(version,) for version in range(1, schema_version + 1)],
    )


def insert_owner(connection: sqlite3.Connection, did: str, posts: int) -> None:
    """Add the owner's profile and a session whose tokens must never turn up in an export."""
    handle = "owner.bsky.social"
    connection.execute(
        "insert into sessions values ('canary-session', ?, ?, 'Owner', ?, ?, ?, ?)",
        (
            did,
            handle,
            ACCESS_TOKEN,
            REFRESH_TOKEN,
            "2025-11-01 10:00:00 +0000 UTC",
            "2025-11-01 08:00:00 +0000 UTC",
        ),
    )
    connection.execute(
        "insert into profiles values (?, ?, 'Owner', 'Keeps every post.', '', '', 1234, 321, ?, ?)",
        (did, handle, posts, "2025-11-01 08:00:01.5 +0000 UTC m=+1.500000000"),
    )


# --- The command ------------------------------------------------------------------------------------------------


def argument_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make_archive",
        description="Make a synthetic bskyarchive archive. The same arguments make the same rows.",
        epilog="example: make_archive.py demo.db --posts 2500 --seed 7; exit status: 0 made, 1 could not be written, "
        "2 wrong usage or PATH exists",
    )
    parser.add_argument("path", metavar="PATH", type=Path, help="the archive to make")
    parser.add_argument("--posts", metavar="N", type=int, required=True, help="how many posts")
    parser.add_argument("--seed", metavar="S", type=int, default=1, help="decides every choice (default 1)")
    parser.add_argument("--authors", metavar="N", type=int, default=200, help="one owner and others (default 200)")
    parser.add_argument("--wal", action="store_true", help="leave the archive in WAL mode")
    parser.add_argument(
        "--offset-share",
        metavar="X",
        type=float,
        default=0.0,
        help="share of posts stamped with an offset, 0 to 1 (default 0)",
    )
    parser.add_argument("--no-index", dest="index", action="store_false", help="leave out idx_posts_created_at")
    parser.add_argument("--no-fts", dest="fts", action="store_false", help="leave out the full-text table")
    parser.add_argument(
        "--big-post",
        dest="big_post_bytes",
        metavar="BYTES",
        type=int,
        default=0,
        help="one more post with a text of that many bytes",
    )
    parser.add_argument("--media", action="store_true", help="add media rows, and files in media/ beside PATH")
    parser.add_argument(
        "--ties", metavar="N", type=int, default=0, help="so many of the posts share one instant (default 0)"
    )
    parser.add_argument(
        "--schema-version",
        metavar="V",
        type=int,
        default=SCHEMA_VERSION,
        help=f"1, 2 or 3 (default {SCHEMA_VERSION})",
    )
    parser.add_argument(
        "--reading", action="store_true", help="an archive for people to read: threads, answers, quotes, images"
    )
    parser.add_argument("--force", action="store_true", help="replace PATH if it exists")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit status; usage errors leave through argparse with status 2.
    """
    parser = argument_parser()
    options = parser.parse_args(arguments)
    started = time.monotonic()
    try:
        info = make_archive(**vars(options))
    except ValueError as error:
        parser.error(str(error))
    except FileExistsError:
        print(f"make_archive: {options.path} exists; use --force to replace it", file=sys.stderr)
        return 2
    except (OSError, sqlite3.Error) as error:
        print(f"make_archive: cannot write {options.path}: {error}", file=sys.stderr)
        return 1
    seconds = time.monotonic() - started
    size_bytes = info.path.stat().st_size
    print(
        f"made {info.path}: {info.posts} posts, owner {info.owner_did}, "
        f"{size_bytes} bytes, {info.media_files} media files, {seconds:.1f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
