"""The form and the options of the command: the same names, groups and help, and nothing that names a path."""

from __future__ import annotations

from typing import Any

import pytest
from typer.main import get_command

from skyexport.cli.app import app
from skyexport.errors import OptionError
from skyexport.options.declarations import GROUPS
from skyexport.web.form import arguments_of, fields, groups

GROUP: Any = get_command(app)

LEFT_OUT = {
    "to": "names a path", "output-dir": "names a path", "overwrite": "belongs to --to", "media-root": "names a path",
    "allow-unrelated": "the form offers exports of the same archive only", "from-file": "names a path",
    "shard": "is for several machines", "cluster": "is for several machines", "resume-batch": "is for many archives",
    "dry-run": "comes before every export", "quiet": "is for terminals", "verbose": "is for terminals",
    "progress": "is for terminals", "json": "is for programs", "debug": "is for terminals", "config": "names a path",
    "help": "is for terminals",
}  # fmt: skip
"""Option of the command that is no field → why."""


def test_every_option_is_a_field_or_has_a_reason() -> None:
    """An option that is added to the command must become a field, or be named here."""
    options = {
        name.removeprefix("--"): option
        for option in GROUP.commands["export"].params
        if option.param_type_name == "option"
        for name in option.opts
        if name.startswith("--")
    }
    shown = {field.name: field for field in fields()}
    assert options.keys() - {"help"} == (shown.keys() | LEFT_OUT.keys()) - {"help"}
    assert not shown.keys() & LEFT_OUT.keys()
    for name, field in shown.items():
        assert field.help == options[name].help.partition(" [default")[0] or field.help in options[name].help
        assert field.group == options[name].rich_help_panel
        assert (field.kind == "flag") == options[name].is_flag


def test_groups_are_those_of_the_help() -> None:
    """In the same order, with every field once."""
    found = groups()
    assert [group for group, _ in found] == [group for group in GROUPS if group in dict(found)]
    assert [field for _, members in found for field in members] != []
    assert sorted(field.name for _, members in found for field in members) == sorted(field.name for field in fields())


def test_arguments() -> None:
    """Each field sets its option; empty ones set nothing; a number becomes the path of an export."""
    values = {
        "format": "csv", "author": " alice.example ", "since": "", "csv-safe": "on", "delimiter": "tab",
        "link-media": "7", "match": "-x --to=/etc/passwd",
    }  # fmt: skip
    assert arguments_of(values, {"7": "/exports/all/x"}) == [
        "--format=csv", "--author=alice.example", "--csv-safe", "--delimiter=tab", "--link-media=/exports/all/x",
        "--match=-x --to=/etc/passwd",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"to": "x"}, "no field 'to'"), ({"nothing": "x"}, "no field 'nothing'"), ({"": "x"}, "no field ''"),
        ({"link-media": "8"}, "there is no export 8"), ({"since-export": "/etc"}, "there is no export /etc"),
        ({"match": "x" * 6000}, "too long"), ({"match": "a\0b"}, "control characters"),
        ({"columns": "a\nb"}, "control characters"),
    ],
)  # fmt: skip
def test_wrong_fields(values: dict[str, str], message: str) -> None:
    """Anything else is refused, in words."""
    with pytest.raises(OptionError, match=message):
        arguments_of(values, {"7": "/exports/all/x"})
