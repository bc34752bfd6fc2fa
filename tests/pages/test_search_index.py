"""The index for searching against a search of every post, and the files that it is made of."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.pages import search_index
from skyexport.pages.search_index import (
    Document,
    WordIndex,
    documents_js,
    documents_of,
    postings_of,
    table_js,
    table_of,
)
from skyexport.pages.search_words import PAIR_RANGES, words_of_text
from tests import strategies

_WORDS = """
the a at then forest Forests über été straße кто кот σας ΣΑΣ 東京 東京都 天気
비가 ภาษา 12 1999 ❤️ <b> @1 😀
"""

WORDS = _WORDS.split()

Posts = list[tuple[int, str]]
"""(author, text) of each post, by rank."""


def some_posts(number: int, seed: int = 1) -> Posts:
    """Posts of a few authors, of words in many scripts; always the same."""
    choose = random.Random(seed)
    return [
        (choose.randrange(3), " ".join(choose.choices(WORDS, k=choose.randrange(8))) + f" n{rank}")
        for rank in range(number)
    ]


def shards_of(folder: Path, posts: Posts, order: list[int] | None = None, **options: Any) -> list[tuple[str, bytes]]:
    """The shards of these posts, added in some order."""
    folder.mkdir(exist_ok=True)
    with WordIndex(folder, **options) as index:
        for rank in order if order is not None else range(len(posts)):
            index.add(rank, *posts[rank])
        shards = list(index.shards())
    assert list(folder.iterdir()) == []
    return shards


def ranks_by_word(posts: Posts, by_author: bool = True) -> dict[str, list[int]]:
    """What an index of these posts must say."""
    ranks: dict[str, list[int]] = {}
    for rank, (author, text) in enumerate(posts):
        for word in [*words_of_text(text), *([f"@{author}"] if by_author else [])]:
            ranks.setdefault(word, []).append(rank)
    return dict(sorted(ranks.items()))


def read_back(shards: list[tuple[str, bytes]]) -> dict[str, list[int]]:
    """What an index says; checks that all is in order."""
    ranks: dict[str, list[int]] = {}
    for first, content in shards:
        postings = list(postings_of(content))
        assert postings[0][0] == first
        for word, some in postings:
            ranks.setdefault(word, []).extend(some)
    assert list(ranks) == sorted(ranks)
    return ranks


@pytest.mark.parametrize("block_postings", [1, 7, 100, 1_000_000])
@pytest.mark.parametrize("shard_bytes", [1, 50, 1000, 1_000_000])
def test_index_is_that_of_every_post(tmp_path: Path, block_postings: int, shard_bytes: int) -> None:
    """However small runs and shards are, each word has its posts; more than 64 runs are merged in steps."""
    posts = some_posts(200)
    shards = shards_of(tmp_path, posts, block_postings=block_postings, shard_bytes=shard_bytes)
    assert read_back(shards) == ranks_by_word(posts)
    assert [content.partition(b",")[0] for _, content in shards] == [
        b"skyexportSearch.words(%d" % number for number in range(1, len(shards) + 1)
    ]


def test_order_of_posts_makes_no_difference(tmp_path: Path) -> None:
    """Posts may come in any order: the bytes are the same."""
    posts = some_posts(500)
    order = list(range(500))
    random.Random(2).shuffle(order)
    expected = shards_of(tmp_path, posts, shard_bytes=500)
    for some in (order, order[::-1], list(range(500))[::-1]):
        assert shards_of(tmp_path, posts, some, block_postings=300, shard_bytes=500) == expected


def test_many_ranks_out_of_order(tmp_path: Path) -> None:
    """Ranks of a frequent word are put in order without a list of them; such a word has several shards."""
    posts = [(0, "often") for _ in range(100_000)]
    order = list(range(100_000))
    random.Random(3).shuffle(order)
    shards = shards_of(tmp_path, posts, order, block_postings=50_000, shard_bytes=1000)
    assert [first for first, _ in shards].count("often") > 10
    assert read_back(shards) == ranks_by_word(posts)


def test_shards_have_about_their_size(tmp_path: Path) -> None:
    """No shard is much larger than it should be, and only the last is smaller."""
    sizes = [len(content) for _, content in shards_of(tmp_path, some_posts(3000), shard_bytes=2000)]
    assert min(sizes[:-1]) >= 2000
    assert max(sizes) < 2000 + 4096 * 2 + 100


def test_one_author_needs_no_words(tmp_path: Path) -> None:
    """Without a choice of authors, no word stands for one."""
    posts = some_posts(20)
    assert read_back(shards_of(tmp_path, posts, by_author=False)) == ranks_by_word(posts, by_author=False)


def test_no_posts(tmp_path: Path) -> None:
    """Nothing makes no shard, and neither do posts without words."""
    assert shards_of(tmp_path, []) == []
    assert shards_of(tmp_path, [(0, ""), (0, "!?")], by_author=False) == []


def test_closing_removes_runs(tmp_path: Path) -> None:
    """An index that is given up leaves nothing."""
    with WordIndex(tmp_path, block_postings=1) as index:
        index.add(0, 0, "one")
        index.add(1, 0, "two")
        shards = index.shards()
        next(shards)
        assert len(list(tmp_path.iterdir())) == 2
    shards.close()  # type: ignore[attr-defined]
    assert list(tmp_path.iterdir()) == []


def test_errors_of_the_disk_pass(tmp_path: Path) -> None:
    """A folder that is not there is an error of the system."""
    with WordIndex(tmp_path / "missing", block_postings=1) as index, pytest.raises(FileNotFoundError):
        index.add(0, 0, "word")


@given(st.lists(st.tuples(st.integers(0, 2), strategies.texts), max_size=8), st.integers(1, 20))
def test_any_texts(tmp_path_factory: pytest.TempPathFactory, posts: Posts, block_postings: int) -> None:
    """Whatever is in texts, shards read back as what was put in."""
    folder = tmp_path_factory.mktemp("index")
    shards = shards_of(folder, posts, block_postings=block_postings, shard_bytes=20)
    assert read_back(shards) == ranks_by_word(posts)
    for _, content in shards:
        assert not set(content.decode()) & set("\\<\u2028\u2029\n") - {"\n"}
        assert content.count(b'"') == 2


@given(st.sets(st.integers(0, 2**32 - 1), min_size=1))
def test_ranks_read_back(ranks: set[int]) -> None:
    """Differences in digits of five bits are read as the ranks that they were."""
    codes = ""
    previous = 0
    for rank in sorted(ranks):
        codes += search_index._codes[rank - previous]
        previous = rank
    content = b'skyexportSearch.words(1,"word %b");\n' % codes.encode()
    assert list(postings_of(content)) == [("word", sorted(ranks))]


@pytest.mark.parametrize(
    ("number", "code"),
    [(0, "A"), (1, "B"), (31, "f"), (32, "hA"), (33, "hB"), (1023, "_f"), (1024, "hgA"), (2**32 - 1, "j_____f")],
)
def test_digits(number: int, code: str) -> None:
    """These are the digits, from the highest to the lowest."""
    assert search_index._codes[number] == code


documents = st.builds(
    Document,
    st.sampled_from(["2024/05/1.html", "undated/1.html", "authors/日本 <b>/2024/05/1.html"]),
    strategies.texts,
    st.sampled_from(["", "2024-05-22T18:57:38.254Z"]),
    st.integers(0, 5),
    strategies.texts,
)


@given(st.lists(documents, max_size=6))
def test_documents_read_back(some: list[Document]) -> None:
    """A file of posts has what was put in, is JSON within a call, and has nothing that ends a script."""
    content = documents_js(7, some)
    assert documents_of(content) == some
    assert content.startswith(b"skyexportSearch.posts(7,{")
    text = content.decode()
    assert not set("<\u2028\u2029") & set(text)
    value = json.loads(text.removeprefix("skyexportSearch.posts(7,").removesuffix(");\n"))
    assert list(value) == ["paths", "posts"]
    assert len(value["paths"]) == len({document.path for document in some})


def test_document_bytes() -> None:
    """This is the format."""
    some = [
        Document("2024/05/1.html", "3k", "2024-05-22T18:57:38.254Z", 0, "a</script>\u2028é"),
        Document("2024/05/1.html", "3l", "", 1, ""),
    ]
    assert documents_js(2, some).decode() == (
        'skyexportSearch.posts(2,{"paths":["2024/05/1.html"],"posts":['
        '[0,"3k","2024-05-22T18:57:38.254Z",0,"a\\u003c/script>\\u2028é"],[0,"3l","",1,""]]});\n'
    )


def test_table_reads_back() -> None:
    """The table says where everything is, and which ranges the rule for words has."""
    content = table_js(["12", "über"], [0, 200], [("", 0), ("2024-05", 3)], [("<Ann>", "ann.example"), ("B", "")], 340)
    assert b"<" not in content
    table = table_of(content)
    assert table["wordFiles"] == ["12", "über"]
    assert table["postFiles"] == [0, 200]
    assert table["months"] == [["", 0], ["2024-05", 3]]
    assert table["authors"] == [["<Ann>", "ann.example"], ["B", ""]]
    assert table["posts"] == 340
    assert [tuple(pair) for pair in table["pairs"]] == list(PAIR_RANGES)


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"skyexportSearch.posts(1,{});\n", b"skyexportSearch.posts(1,[]);\n", b"skyexportSearch.posts(1,{"],
)
def test_other_files_are_refused(content: bytes) -> None:
    """What is not such a file is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011
        documents_of(content)
    with pytest.raises(ValueError):  # noqa: PT011
        list(postings_of(content))
    with pytest.raises(ValueError, match="not a table"):
        table_of(content)


@pytest.mark.parametrize("data", ["3", '"word"', '"word !"'])
def test_damaged_shards_are_refused(data: str) -> None:
    """A shard without ranks, or with other digits, is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011
        list(postings_of(f"skyexportSearch.words(1,{data});\n".encode()))
