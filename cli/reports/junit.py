"""The result as JUnit XML, which CI systems show as tests: the gates of a check, else the metrics of the runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from xml.etree import ElementTree

from lbal.analyzers.metrics import METRICS, Measure
from lbal.analyzers.plain import plain
from lbal.analyzers.result.report import Report
from lbal.analyzers.result.result import Result
from lbal.analyzers.wording.differences import gate_sentence, gate_status
from lbal.analyzers.wording.numbers import shown_unit, shown_value

NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class JUnitReport(Report):
    """Gates that fail are failures, inconclusive ones that pass are skipped; unknown metrics are skipped too."""

    name: ClassVar[str] = "junit"
    suffixes: ClassVar[tuple[str, ...]] = (".xml",)
    content: ClassVar[str] = "JUnit XML: gates, or metrics, as tests"

    def render(self, result: Result) -> str:
        """A suite for each run; there are no times in it, so that the same result gives the same bytes."""
        root = ElementTree.Element("testsuites", name=f"lbal {result.command}")
        for label, cases in _suites(result).items():
            failures, skipped = (sum(case.find(tag) is not None for case in cases) for tag in ("failure", "skipped"))
            suite = ElementTree.SubElement(
                root,
                "testsuite",
                name=_clean(label),
                tests=str(len(cases)),
                failures=str(failures),
                errors="0",
                skipped=str(skipped),
            )
            suite.extend(cases)
        for total in ("tests", "failures", "errors", "skipped"):
            root.set(total, str(sum(int(suite.get(total, "0")) for suite in root)))
        ElementTree.indent(root)
        return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _clean(text: str) -> str:
    """The text with `?` for every character that XML cannot hold."""
    return NOT_XML.sub("?", plain(text))


def _suites(result: Result) -> dict[str, list[ElementTree.Element]]:
    suites: dict[str, list[ElementTree.Element]] = {}
    for gate in result.check.get("gates", ()):
        suites.setdefault(gate["run"], []).append(_gate_case(gate))
    for pair in result.comparison.get("pairs", ()):
        name = f"{pair['head']}: {pair['head_run']} against {pair['base']}: {pair['base_run']}"
        suites[name] = [_difference_case(name, each) for each in pair["differences"]]
    for run in result.runs:
        measures = {**run.metrics, **run.headroom}
        suites[run.label] = [_metric_case(run.label, name, value) for name, value in measures.items()]
    if not suites:
        case = _case(result.command, result.command)
        _with_text(case, "system-out", result.headline)
        suites[result.command] = [case]
    return suites


def _case(suite: str, name: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", classname=_clean(suite), name=_clean(name))


def _with_text(case: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    ElementTree.SubElement(case, tag, attributes).text = _clean(text)


def _gate_case(gate: Mapping[str, Any]) -> ElementTree.Element:
    case = _case(gate["run"], gate["gate"])
    sentence = gate_sentence(gate)
    if gate["fails"]:
        _with_text(case, "failure", sentence, message=_clean(sentence), type=gate_status(gate))
    elif gate["verdict"] != "passed":
        _with_text(case, "skipped", "", message=_clean(f"{gate_status(gate)}: {sentence}"))
    else:
        _with_text(case, "system-out", sentence)
    return case


def _difference_case(suite: str, each: Mapping[str, Any]) -> ElementTree.Element:
    case = _case(suite, each["metric"])
    unit = each["unit"]
    values = [shown_value(each[side], unit) for side in ("base", "head")]
    _with_text(case, "system-out", f"{values[0]} -> {values[1]} {shown_unit(unit)}: {each['mark']}")
    return case


def _metric_case(suite: str, name: str, value: Measure) -> ElementTree.Element:
    case = _case(suite, name)
    unit = METRICS[name].unit
    shown = shown_value(value.value, unit)
    if shown == "n/a":
        _with_text(case, "skipped", "", message="not known")
    else:
        _with_text(case, "system-out", f"{shown} {shown_unit(unit)} ({value.basis})")
    return case
