"""HTML tables and SVG pictures, for notebooks and profiles.

All names are escaped: a layer's name may contain any characters.
"""

import html
from collections.abc import Sequence
from typing import Any

_COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#ff9da7", "#9c755f", "#86bcb6")
_LETTER = 6.2  # the width of a character at font size 11, in pixels


def color(number: int) -> str:
    """A color for each number. The colors repeat."""
    return _COLORS[number % len(_COLORS)]


def html_table(
    header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "", foot: Sequence[str] = ()
) -> str:
    """An HTML table, with strings aligned left and numbers aligned right. foot: lines below it."""

    def cell(tag: str, value: Any, is_text: bool) -> str:
        return f'<{tag} style="text-align:{"left" if is_text else "right"}">{html.escape(str(value))}</{tag}>'

    texts = [not rows or any(not _is_number(row[i]) for row in rows) for i in range(len(header))]
    lines = ["<table>"]
    if caption:
        lines.append(f"<caption>{html.escape(caption)}</caption>")
    cells = [cell("th", value, is_text) for value, is_text in zip(header, texts, strict=True)]
    lines.append(f"<thead><tr>{''.join(cells)}</tr></thead><tbody>")
    for row in rows:
        cells = [cell("td", value, is_text) for value, is_text in zip(row, texts, strict=True)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</tbody></table>")
    lines += [f"<div>{html.escape(line)}</div>" for line in foot]
    return "\n".join(lines)


def _is_number(value: Any) -> bool:
    """Whether a cell contains a number, or '-' in place of one."""
    text = str(value).strip().rstrip("%").replace(",", "")
    try:
        float(text)
    except ValueError:
        return text == "-"
    return True


def svg(width: float, height: float, parts: Sequence[str]) -> str:
    """An SVG picture of these elements."""
    style = "font-family:sans-serif;font-size:11px"
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{style}">', *parts, "</svg>", ""])


def text(x: float, y: float, content: str, anchor: str = "start", fill: str = "currentColor") -> str:
    """A line of text. anchor: the part of the line that is at x: 'start', 'middle' or 'end'."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"'
    return f"<text {place}>{html.escape(content)}</text>"


def box(
    x: float, y: float, width: float, height: float, fill: str, title: str, label: str = "", opacity: float = 1
) -> str:
    """A rectangle with the tooltip `title`. The label is drawn inside, cut to fit."""
    place = f'x="{x:.2f}" y="{y:.2f}" width="{max(width, 0.2):.2f}" height="{max(height, 0.2):.2f}"'
    look = f'fill="{fill}" fill-opacity="{opacity:g}" stroke="white" stroke-width="0.5"'
    parts = [f"<g><title>{html.escape(title)}</title><rect {place} {look}/>"]
    letters = int((width - 6) / _LETTER)
    if label and (len(label) <= letters or letters >= 5):
        shown = label if len(label) <= letters else f"{label[: letters - 1]}…"
        parts.append(text(x + 3, y + height / 2 + 4, shown, fill="white"))
    return "".join([*parts, "</g>"])


def curves(series: dict[str, Sequence[float]], width: float = 420, height: float = 160) -> str:
    """A line chart over 1, 2, 3, ..., with names and with minimum and maximum at the side; '' if there is no finite number."""
    known = {name: [(i, v) for i, v in enumerate(values) if abs(v) < float("inf")] for name, values in series.items()}
    values = [v for points in known.values() for _, v in points]
    if not values:
        return ""
    low, high = min(values), max(values)
    span, count = (high - low) or 1.0, max(max(map(len, series.values())) - 1, 1)
    left, top, wide, high_pixels = 60.0, 8.0, width - 190, height - 30
    parts = [
        f'<rect x="{left:g}" y="{top:g}" width="{wide:g}" height="{high_pixels:g}" fill="none" stroke="#bbb"/>',
        text(left - 5, top + 9, f"{high:.4g}", "end"),
        text(left - 5, top + high_pixels, f"{low:.4g}", "end"),
        text(left, height - 6, "1"),
        text(left + wide, height - 6, str(count + 1 if max(map(len, series.values())) > 1 else 1), "end"),
    ]
    for number, (name, points) in enumerate(known.items()):
        at = [(left + wide * i / count, top + high_pixels * (1 - (v - low) / span)) for i, v in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color(number)}" stroke-width="1.5"/>')
        if len(at) == 1:
            parts.append(f'<circle cx="{at[0][0]:.1f}" cy="{at[0][1]:.1f}" r="2" fill="{color(number)}"/>')
        parts.append(text(left + wide + 8, top + 12 + 14 * number, name, fill=color(number)))
    return svg(width, max(height, top + 14 * len(known) + 12), parts)
