"""A policy class that cannot work is refused where it is found: one line with class, attribute and remedy."""

from __future__ import annotations

import textwrap

import pytest

from lbal.analyzers.errors import UsageError
from lbal.replay.policy.checks import check_policy
from lbal.replay.policy.policy import POLICIES, parse_policy

HEAD = """
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar
from lbal.replay.policy.policy import PlainRouter, PlainSelector, Policy, Router, Selector
from lbal.replay.policy.view import View
"""
GOOD = """
@dataclass(frozen=True)
class First(Router):
    '''The first rank.'''
    weight: float = 1.0
    name: ClassVar[str] = "first"
    looks_at: ClassVar[str] = "nothing"

    @staticmethod
    def choose(view: View, request: int) -> int:
        return view.eligible.argmax()
"""
METHOD = GOOD.replace("    @staticmethod\n", "").replace("(view", "(self, view")


def file_with(tmp_path, text):
    file = tmp_path / "mine.py"
    file.write_text(HEAD + textwrap.dedent(text))
    return str(file)


@pytest.mark.parametrize("name", POLICIES.names())
def test_every_policy_of_lbal_passes_the_checks(name):
    check_policy(POLICIES.get(name))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD.replace('    looks_at: ClassVar[str] = "nothing"\n', ""),
            r"class First lacks the attribute looks_at, exp",
        ),
        (GOOD.replace('    name: ClassVar[str] = "first"\n', ""), "class First lacks the attribute name, expected"),
        (METHOD, r"class First: choose: is a method, expected @staticmethod .*PlainRouter"),
        (
            GOOD.replace(", request: int", ""),
            r"class First: choose: takes 1 arguments \(view\), expected choose\(view, r",
        ),
        (
            GOOD.replace("view.eligible", "view.eligble"),
            r"mine.py:\d+: class First: .* 'eligble': did you mean 'eligible'",
        ),
        (GOOD.replace("choose", "chose"), "class First does not define choose"),
        (
            GOOD.replace("@dataclass(frozen=True)\n", ""),
            r"class First: weight: is no parameter yet, expected @dataclass",
        ),
        (GOOD.replace("float = 1.0", "float"), "class First: weight: the parameter has no default"),
        (GOOD.replace("(Router)", "(Policy)").replace("choose", "go"), "class First has no rule, expected .* Router"),
        ("one = 1", "the file defines no policy, expected a class that derives from Router"),
        (
            GOOD + GOOD.replace("First", "Second"),
            r"several policies, expected .*mine.py:NAME with one of First, Second",
        ),
        ("raise GeneratorExit", "mine.py: the file fails on import: GeneratorExit$"),
        ("raise SystemExit('bye')", "mine.py: the file fails on import: SystemExit: bye"),
    ],
)
def test_a_class_that_cannot_work_is_refused_in_one_line(tmp_path, text, message):
    with pytest.raises(UsageError, match=message) as raised:
        parse_policy(file_with(tmp_path, text))
    assert "\n" not in str(raised.value)


def test_a_helper_that_misspells_a_field_of_the_view_is_found_with_its_line(tmp_path):
    text = GOOD.replace("view.eligible.argmax()", "helper(view)") + "def helper(view):\n    return view.dp_sise\n"
    with pytest.raises(UsageError, match=r"mine.py:\d+: .*'dp_sise': did you mean 'dp_size'"):
        parse_policy(file_with(tmp_path, text))


def test_the_only_class_of_a_file_need_not_be_named(tmp_path):
    file = file_with(tmp_path, GOOD)
    assert [parse_policy(file + rest).label for rest in ("", ":", ":First", ":weight=2", ":First:weight=2")] == [
        "first",
        "first",
        "first",
        "first:weight=2",
        "first:weight=2",
    ]


def test_a_base_that_is_no_policy_by_itself_does_not_count_as_one_of_several(tmp_path):
    base = '@dataclass(frozen=True)\nclass Base(Router):\n    """A base."""\n    looks_at: ClassVar[str] = "nothing"\n'
    assert parse_policy(file_with(tmp_path, base + GOOD)).name == "first"


def test_a_rule_in_plain_python_is_a_method(tmp_path):
    policy = parse_policy(file_with(tmp_path, METHOD.replace("(Router)", "(PlainRouter)")))
    assert policy.compiled is False


def test_a_constructor_that_ends_the_process_is_told(tmp_path):
    text = GOOD + "    def __post_init__(self):\n        raise SystemExit\n"
    with pytest.raises(Exception, match=r"policy first \(lbal_policy_mine.First\): it raised SystemExit") as raised:
        parse_policy(file_with(tmp_path, text))
    assert type(raised.value).__name__ == "PluginError"
