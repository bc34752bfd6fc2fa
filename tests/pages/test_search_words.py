"""The rule for words: examples in many scripts, and what holds for every text."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyexport.pages.search_words import (
    IGNORED_RANGES,
    MAX_WORD_CHARACTERS,
    PAIR_RANGES,
    words_of_query,
    words_of_text,
)
from tests import strategies

SCRIPTS = st.text(
    st.one_of(
        st.sampled_from(
            "aAéİıßςΣσﬁ½①℡㍿ｶﾞガ한글조가ᄀ각ภาษา漢字仮名々ーかな𠮷𪚥\u0301\ufe0f\u200d\u00ad🇯👍🏽 .,-_@#'\n"
        ),
        strategies.characters,
    ),
    max_size=30,
)


def is_found(query: str, text: str) -> bool:
    """Whether a search for *query* finds a post with this text."""
    words = words_of_text(text)
    return all(any(word.startswith(wanted) for word in words) for wanted in words_of_query(query))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        (" .,-!?…\n\t", ""),
        ("Hello, hello WORLD!", "hello world"),
        ("don't re-do it_now", "don t re do it now"),
        ("#tag @user.bsky.social https://a.example/b?c=1", "tag user bsky social https a example b c 1"),
        ("Straße ÉTÉ e\u0301te\u0301 İstanbul", "straße été i\u0307stanbul"),
        ("ΟΔΟΣ οδός ΣΑΣ", "οδοσ οδόσ σασ"),
        ("ﬁn ＡＢＣ ½ ① ℡", "fin abc 1 2 tel"),
        ("Кто ёлка ҐАНОК", "кто ёлка ґанок"),
        ("שלום קִטָּה كِتَاب", "שלום קִטָּה كِتَاب"),
        ("नमस्ते हिन्दी", "नमस्ते हिन्दी"),
        ("می\u200cخواهم", "میخواهم"),
        ("soft\u00adhyphen", "softhyphen"),
        ("❤️ ok👍🏽yes 👩‍👩‍👧 🇯🇵 1️⃣", "ok yes 1"),
        ("東京都", "東京 京都 都"),
        ("東", "東"),
        ("ラーメン・カレー", "ラー ーメ メン ン カレ レー ー"),
        ("ｶﾞｽ", "ガス ス"),
        ("안녕하세요 비", "안녕 녕하 하세 세요 요 비"),
        ("\u1100\u1161", "가"),
        ("ภาษา", "ภา าษ ษา า"),
        ("2024年5月のiPhone版", "2024 年 5 月の の iphone 版"),
        ("𠮷野家", "𠮷野 野家 家"),
        ("葛\U000e0100飾", "葛飾 飾"),
        ("\U0003f000\U0003f001", "\U0003f000\U0003f001 \U0003f001"),
        ("x" * 100 + " " + "é" * 65, "x" * 64 + " " + "é" * 64),
        ("\ufffd a\0b\ufeffc", "a b c"),
    ],
)
def test_words_of_a_text(text: str, words: str) -> None:
    """Runs of letters, marks and digits, normalized; pairs where there are no spaces."""
    assert words_of_text(text) == set(words.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("!?", []),
        ("b A b a", ["b", "a"]),
        ("東京都", ["東京", "京都"]),
        ("京", ["京"]),
        ("iPhone東2京都", ["iphone", "東", "2", "京都"]),
        ("ーーー", ["ーー"]),
        ("Σίσυφος", ["σίσυφοσ"]),
        ("@3", ["3"]),
        ("y" * 70, ["y" * 64]),
    ],
)
def test_words_of_a_query(text: str, words: list[str]) -> None:
    """They come in order, each once; a single character of a pair script stands for itself."""
    assert words_of_query(text) == words


@pytest.mark.parametrize("query", ["京", "東京", "都", "京都に", "i", "IPHONE", "１２", "に", "a1", "σασ"])
def test_beginnings_are_found(query: str) -> None:
    """A word is found by its beginning, and every character of a pair script begins a word."""
    assert is_found(query, "東京都に iPhone 12 A1b ΣΑΣ")


@pytest.mark.parametrize("query", ["京東", "phone", "東都", "2", "b"])
def test_other_parts_are_not_found(query: str) -> None:
    """The inside of a word is not found, nor are pairs in another order."""
    assert not is_found(query, "東京都に iPhone 12 A1b")


@given(SCRIPTS)
def test_a_text_is_found_by_itself(text: str) -> None:
    """Whatever a text is, all words of it as a query begin words of it as a text."""
    assert is_found(text, text)


@given(SCRIPTS)
def test_words_are_words(text: str) -> None:
    """A word is of letters, marks and digits in lower case, and not too long."""
    for word in words_of_text(text):
        assert 1 <= len(word) <= MAX_WORD_CHARACTERS
        for character in word:
            assert unicodedata.category(character)[0] in "LMN" or is_in(PAIR_RANGES, character)
            assert not is_in(IGNORED_RANGES, character)
            assert character != "ς"


@given(SCRIPTS, SCRIPTS)
def test_words_of_parts(left: str, right: str) -> None:
    """The words of a text are those of its parts between spaces."""
    for space in (" ", "\n", "\u3000"):
        assert words_of_text(left + space + right) == words_of_text(left) | words_of_text(right)


def is_in(ranges: tuple[tuple[int, int], ...], character: str) -> bool:
    """Whether the character is in one of the ranges."""
    return any(first <= ord(character) <= last for first, last in ranges)


@pytest.mark.parametrize("ranges", [PAIR_RANGES, IGNORED_RANGES])
def test_ranges_ascend(ranges: tuple[tuple[int, int], ...]) -> None:
    """Ranges ascend and do not touch."""
    ends = [code for pair in ranges for code in pair]
    assert ends == sorted(ends)
    assert all(before[1] + 1 < after[0] for before, after in itertools.pairwise(ranges))


def test_pair_ranges_have_only_letters() -> None:
    """Nothing that parts words, as far as this Python knows, is in the ranges."""
    codes = (code for first, last in PAIR_RANGES for code in range(first, last + 1))
    assert {unicodedata.category(chr(code))[0] for code in codes} <= {"L", "M", "N", "C"}


@pytest.mark.parametrize("separator", [" ", "\n"])
def test_long_texts(separator: str) -> None:
    """A text of a megabyte has its words, also if there is no space in it."""
    text = separator.join(f"w{number} 東{number}" for number in range(60_000))
    words = words_of_text(text)
    assert len(words) == 60_000 * 2 + 1
    assert {"w0", "w59999", "59999", "東"} < words
    assert words_of_text("ab" * 500_000) == {"ab" * 32}
    assert len(words_of_text("漢字" * 500_000)) == 3
