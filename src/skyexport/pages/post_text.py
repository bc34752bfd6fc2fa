"""Texts of posts as segments with links: addresses, domains, mentions and tags, as Bluesky finds them.

Archives do not keep which parts of a text were links, so they are found again. Every pattern here reads a text once,
from left to right, whatever it holds.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from skyexport.pages.addresses import profile_address, tag_address, web_address
from skyexport.pages.views import Segment

__all__ = ["clean", "segments"]

_NOT_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_MARK = re.compile(r"@|#|＃|:(?=//)|\.(?=\w)")
"""Each link has one of these characters, and most texts have none of them."""

_NOT_IN_ADDRESS = r'\s<>"“”«»「」『』【】（）。、'
_NOT_IN_TAG = r"\s\u00ad\u2060\u200a\u200b\u200c\u200d\u20e2"
# Possessive quantifiers: a match never goes back.
_WEB = re.compile(rf"(?<![^\W_])[Hh][Tt][Tt][Pp][Ss]?://[^{_NOT_IN_ADDRESS}]++")
_MENTION = re.compile(r"(?<![\w@/])@([A-Za-z0-9][A-Za-z0-9.-]++)")
_TAG = re.compile(rf"(?<!\S)[#＃]([^{_NOT_IN_TAG}]++)")
_NAME = re.compile(r"[\w.-]*+")
"""A word that may be a domain, with all full stops and hyphens in it and around it."""
_DOMAIN = re.compile(
    r"(?<![\w.@/\\:&=?%+~#＃-])([^\W_][\w-]*+(?:\.[\w-]++)++)(?!@)"
    rf"((?::[0-9]{{1,5}}+)?+(?:[/?#][^{_NOT_IN_ADDRESS}]*+)?+)"
)
_PATH = re.compile("[/?#]")

_ENDS = frozenset(".,;:!?'\"…’”»*")
"""Punctuation at the end of an address, which belongs to the sentence."""
_CLOSING = {")": "(", "]": "[", "}": "{"}
_PERHAPS_BEHIND = _ENDS.union(_CLOSING)
_ELLIPSES = ("...", "…")
"""Ends of an address that Bluesky's app shortened."""

_LONGEST_TAG = 64
_LONGEST_HANDLE = 253

_COUNTRY_CODES = (
    "ac ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bm bn bo br bs bt bv bw by bz ca cc "
    "cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg er es et eu fi fj fk fm fo fr ga gb "
    "gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je jm jo jp ke "
    "kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mg mh mk ml mm mn mo mp mq mr ms mt mu "
    "mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw py qa re ro rs ru rw "
    "sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st su sv sx sy sz tc td tf tg th tj tk tl tm tn to tr tt tv tw tz "
    "ua ug uk us uy uz va vc ve vg vi vn vu wf ws ye yt za zm zw"
)
_OTHER_ENDINGS = (
    "academy agency app arpa art asia audio band bar beer berlin bike bio biz blog blue book business cafe camp "
    "cards care cat center chat church cloud club codes coffee com community company computer cool coop design dev "
    "digital directory earth edu education email energy events example exchange expert express family farm fashion "
    "film finance fit fm foundation fun fund fyi gallery game games garden gay gmbh gold gov green group guide "
    "guru health help house how inc info ink institute int international jobs kitchen land law legal life link "
    "live lol london love ltd market marketing mba media mil mobi money mov museum music name net network news ngo "
    "nyc one online ooo org page paris party photo photography photos pics pink pizza place plus poker press pro "
    "productions pub quebec radio red report rest reviews rip rocks run sale school science scot services sex shop "
    "show site ski social software solutions space store stream studio style support surf systems team tech "
    "technology television tips today tools top tours town toys trade travel tube university uno vegas video vip "
    "vision wales watch web website wiki wine work works world wtf xyz yoga zone"
)
_ENDINGS = frozenset(f"{_COUNTRY_CODES} {_OTHER_ENDINGS}".split())
"""Last parts of domains that people use in texts; before a path any letters will do."""


def clean(text: str) -> str:
    """A text that HTML and XML can hold: each line break as `\\n`, and U+FFFD for what XML does not allow."""
    if text.isprintable():
        return text
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _NOT_XML.sub("\ufffd", text)


def segments(text: str, cards: Sequence[str] = ()) -> list[Segment]:
    """A text cut into what is a link, and what is not.

    Args:
        text: As `clean` gives it.
        cards: Addresses of the cards below the text, which complete addresses that the text has shortened.

    Returns:
        Segments that make up the text; none for an empty one.
    """
    mark = _MARK.search(text)
    if mark is None:
        return [Segment(text)] if text else []
    found = []
    done = behind = 0
    while mark:
        start, end, href, behind = _link_at(text, mark.start(), behind, cards)
        if href:
            if start > done:
                found.append(Segment(text[done:start]))
            found.append(Segment(text[start:end], href))
            done = end
        mark = _MARK.search(text, behind)
    if done < len(text):
        found.append(Segment(text[done:]))
    return found


def _link_at(text: str, place: int, first: int, cards: Sequence[str]) -> tuple[int, int, str, int]:
    """The link that has a mark.

    Args:
        text: The whole text.
        place: Of the mark.
        first: The link does not begin before.
        cards: See `segments`.

    Returns:
        Its start and its end, its address, which is empty if there is no link, and where to look for the next mark.
    """
    mark = text[place]
    if mark == "@":
        match = _MENTION.match(text, place)
        if match is None:
            return place, place, "", place + 1
        handle = match[1].rstrip(".-")
        is_name = "." in handle and len(handle) <= _LONGEST_HANDLE
        return place, place + 1 + len(handle), profile_address(handle) if is_name else "", match.end()
    if mark in "#＃":
        match = _TAG.match(text, place)
        if match is None:
            return place, place, "", place + 1
        tag = _tag(match[1])
        return place, place + 1 + len(tag), tag_address(tag) if tag else "", match.end()
    if mark == ":":
        before = text[max(first, place - len("https")) : place].lower()
        start = place - (len("https") if before == "https" else len("http"))
        match = _WEB.match(text, start) if start >= first else None
        if match is None:
            return place, place, "", place + 1
        shown, href = _web_link(match[0], cards)
        return start, start + len(shown), href, match.end()
    start = place
    while start > first and (text[start - 1].isalnum() or text[start - 1] in "_.-"):
        start -= 1
    match = _DOMAIN.match(text, start)
    if match is None:
        name = _NAME.match(text, place)
        return place, place, "", name.end() if name else place + 1
    shown, href = _domain_link(match, cards)
    return start, start + len(shown), href, match.end()


def _web_link(written: str, cards: Sequence[str]) -> tuple[str, str]:
    """The text of a link with a scheme, and its address."""
    shortened = _shortened(written)
    beginning = shortened.rstrip(".…").partition("://")[2]
    # Without the end of the host it might be another one: "https://example.co…".
    card = _card_of(beginning, cards) if _PATH.search(beginning) else ""
    if card:
        return shortened, card
    shown = _without_end(written)
    return shown, web_address(shown)


def _domain_link(match: re.Match[str], cards: Sequence[str]) -> tuple[str, str]:
    """The text of a link without a scheme, and its address, which is empty if this is none."""
    written, host = match[0], match[1]
    shortened = _shortened(written)
    if shortened:
        card = _card_of(shortened.rstrip(".…"), cards)
        if card or match[2]:
            return shortened, card
    shown = _without_end(written)
    return shown, web_address(f"https://{shown}") if _is_domain(host, has_path=len(shown) > len(host)) else ""


def _card_of(beginning: str, cards: Sequence[str]) -> str:
    """The address of the card that begins like a shortened one; empty if there is none."""
    beginning = beginning.lower()
    return next((card for card in cards if card.partition("://")[2].lower().startswith(beginning)), "")


def _shortened(address: str) -> str:
    """An address up to the ellipsis with which it ends; empty if it has none there."""
    kept = address.rstrip(")]}'\"’”»,;:!?")
    return kept if kept.endswith(_ELLIPSES) and kept.rstrip(".…") else ""


def _without_end(address: str) -> str:
    """An address without the punctuation behind it, and without brackets that were not opened in it."""
    if address[-1] not in _PERHAPS_BEHIND:
        return address
    end = len(address)
    unopened = {close: address.count(close) - address.count(opened) for close, opened in _CLOSING.items()}
    while end:
        last = address[end - 1]
        if last in _CLOSING and unopened[last] > 0:
            unopened[last] -= 1
        elif last not in _ENDS:
            break
        end -= 1
    return address[:end]


def _is_domain(host: str, *, has_path: bool) -> bool:
    ending = host.rpartition(".")[2]
    if ending.startswith("xn--"):
        return True
    if not (ending.isascii() and ending.isalpha() and len(ending) > 1 and (ending.islower() or host.isupper())):
        # "Done.Next" lacks a space.
        return False
    ending = ending.lower()
    return has_path or ending in _ENDINGS


def _tag(written: str) -> str:
    """The tag in what follows `#`; empty if there is none."""
    if written.isalnum():
        return "" if len(written) > _LONGEST_TAG or written.isdigit() else written
    end = len(written)
    while end and unicodedata.category(written[end - 1]).startswith("P"):
        end -= 1
    tag = written[:end]
    if not tag or len(tag) > _LONGEST_TAG or tag.startswith("\ufe0f"):
        return ""
    if tag[-1].isalpha():
        return tag
    return tag if any(not c.isdigit() and not unicodedata.category(c).startswith("P") for c in tag) else ""
