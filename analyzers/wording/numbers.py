"""Numbers and names as people read them."""

from __future__ import annotations

from typing import Any

SHOWN_UNITS = {"fraction": "%", "ratio": "ratio", "KV tokens": "tokens", "ms/token": "ms"}
"""Units as tables show them, where they differ from the metric table."""


def shown_unit(unit: str) -> str:
    """The unit that goes with `shown_value`."""
    return SHOWN_UNITS.get(unit, unit)


def shown_value(value: float | None, unit: str) -> str:
    """A value in its shown unit, with as many digits as one compares by."""
    if value is None or value != value:
        return "n/a"
    if unit == "fraction":
        return percent(value).rstrip("%")
    if unit == "ratio":
        return f"{value:.3f}"
    if unit in ("J/token", "g"):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    if unit in ("ms", "ms/token", "s"):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.1f}" if abs(value) >= 100 else f"{value:,.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:,.3g}"


def with_unit(value: float | None, unit: str) -> str:
    """A value in its shown unit, and the unit: `12.3%`, `1.250` for a ratio, `31.2 ms`."""
    text, shown = shown_value(value, unit), shown_unit(unit)
    return f"{text}%" if shown == "%" else text if shown == "ratio" else f"{text} {shown}"


def percent(fraction: float) -> str:
    """A share, as `12.3%`; more digits where it is small."""
    share = round(fraction * 100, 2) + 0.0  # no -0.00
    return f"{share:.1f}%" if abs(share) >= 10 or share == 0 else f"{share:.2f}%"


def count(number: int, what: str) -> str:
    """`1 step`, `2,000 steps`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def listed(names: list[Any]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    texts = [str(name) for name in names]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def coefficient_text(model: dict[str, Any]) -> str:
    """The coefficients of a step-time model, in the units people use for them."""
    parts = [
        f"C {model['C'] * 1e3:.4g} ms",
        f"a {model['a'] * 1e9:.4g} ns/token",
        f"b {model['b'] * 1e6:.4g} us/request",
    ]
    if model["b_mean"]:
        parts.append(f"b_mean {model['b_mean'] * 1e6:.4g} us/request")
    if model.get("p"):
        parts.append(f"p {model['p'] * 1e6:.4g} us/prefill token")
    if model.get("e"):
        parts.append(f"e {model['e'] * 1e9:.4g} ns/prefill pair")
    if model.get("C_x"):
        parts.append(f"C_x {model['C_x'] * 1e3:.4g} ms")
    return ", ".join(parts)


UNITS_OF_COEFFICIENTS = {
    "C": ("ms", 1e3),
    "a": ("ns/token", 1e9),
    "b": ("us/request", 1e6),
    "b_mean": ("us/request", 1e6),
    "p": ("us/token", 1e6),
    "e": ("ns/pair", 1e9),
    "C_x": ("ms", 1e3),
}
"""The units people use for coefficients, and how many of them are in a second."""


def coefficient(name: str, seconds: float) -> str:
    """A coefficient in the unit people use for it, which is not shown."""
    return f"{seconds * UNITS_OF_COEFFICIENTS[name][1]:.4g}"


FOLLOWED_BANDS = ("C", "a", "b", "p")
"""Coefficients whose bands ranges are over."""


def bands_text(model: dict[str, Any]) -> str:
    """The bands of a step-time model that ranges are over."""
    bands = {name: band for name, band in model.get("bands", {}).items() if name in FOLLOWED_BANDS}
    return ", ".join(
        f"{name} {coefficient(name, band['low'])} to {coefficient(name, band['high'])} {UNITS_OF_COEFFICIENTS[name][0]}"
        for name, band in bands.items()
    )


def power_text(power: dict[str, Any]) -> str:
    """A power model in one line."""
    if "wait_watts" not in power:
        watts = f"{power['idle_watts']:g} to {power['max_watts']:g} W by load"
    else:
        busy, wait = power["busy_watts"], power["wait_watts"]
        by = f"{busy['low']:g} to {busy['high']:g} W by requests" if power["n_half"] else f"{busy['nominal']:g} W"
        watts = f"busy {by}, waiting {wait['nominal']:g} W ({wait['low']:g} to {wait['high']:g})"
    gpus = count(power["gpus_per_rank"], "GPU")
    assumed = f"; assumed: {power['assumed']}" if power.get("assumed") else ""
    return f"{power['name']} ({watts}; {gpus} per rank{assumed})"


def listing_text(rows: list[dict[str, Any]], *, terminal: bool) -> str:
    """Records as an aligned list; on a terminal the last column wraps, in a pipe nothing is cut."""
    import io
    import shutil

    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = list(rows[0])
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(Text(name), no_wrap=not terminal, overflow="fold" if terminal else "ignore")
    for row in rows:
        table.add_row(*[Text(str(row[name])) for name in columns])
    buffer = io.StringIO()
    width = shutil.get_terminal_size().columns if terminal else 10_000
    Console(file=buffer, width=width, force_terminal=terminal, highlight=False).print(table)
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def legend_text(meanings: dict[str, str], *, terminal: bool) -> str:
    """What names in a listing mean, one paragraph each; wrapped on a terminal, one line each in a pipe."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns if terminal else 10_000
    lines = ["", *[textwrap.fill(f"{name}: {text}", width, subsequent_indent="  ") for name, text in meanings.items()]]
    return "\n".join(lines) + "\n"


def mean_load(value: float | None, digits: int) -> str:
    """The mean load of a rank or a step; n/a where the trace does not tell it."""
    return "n/a" if value is None else f"{value:,.{digits}f}"
