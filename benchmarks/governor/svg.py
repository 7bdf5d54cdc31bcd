"""Plots drawn as SVG text. Colours are CSS classes, so that a page shows them in light and in dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

LEFT, RIGHT, TOP, BOTTOM = 52, 92, 24, 22
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Frame:
    """One plot's box in pixels and its ranges in units; margins are inside."""

    width: int
    height: int
    x_max: float
    y_max: float
    y_min: float = 0.0
    bottom: int = BOTTOM

    def x(self, value: float) -> float:
        """Pixels from the left."""
        return LEFT + value / self.x_max * (self.width - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixels from the top; outside the range is on its edge."""
        share = min(1.0, max(0.0, (value - self.y_min) / (self.y_max - self.y_min)))
        return self.height - self.bottom - share * (self.height - TOP - self.bottom)


def svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    """A drawing that shrinks with the page."""
    inside = "".join(parts)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
        f'style="max-width:{width}px">{inside}</svg>'
    )


def text(x: float, y: float, words: str, css: str = "", *, anchor: str = "start") -> str:
    """Words at a place."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>'


def line(a: Point, b: Point, css: str) -> str:
    """A straight line."""
    return f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" class="{css}"/>'


def rect(corner: Point, width: float, height: float, css: str, title: str = "") -> str:
    """A bar; its title shows under the pointer."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    size = f'width="{max(0.0, width):.1f}" height="{height:.1f}"'
    return f'<rect x="{corner[0]:.1f}" y="{corner[1]:.1f}" {size} rx="1.5" class="{css}">{inside}</rect>'


def curve(frame: Frame, step_x: float, values: Sequence[float], css: str, *, is_stepped: bool = False) -> str:
    """A series at equal steps; points that lie between two equal ones are left out."""
    kept = [i for i, value in enumerate(values) if not _is_between(values, i, value)]
    words: list[str] = []
    for i in kept:
        x, y = frame.x(i * step_x), frame.y(values[i])
        words.append(f"H{x:.1f}V{y:.1f}" if is_stepped and words else f"{'L' if words else 'M'}{x:.1f},{y:.1f}")
    return f'<path d="{"".join(words)}" class="{css}"/>'


def _is_between(values: Sequence[float], i: int, value: float) -> bool:
    return 0 < i < len(values) - 1 and values[i - 1] == value == values[i + 1]


def dots(points: Sequence[Point], css: str) -> str:
    """Many round dots as one path: their size is the stroke's width."""
    return f'<path d="{"".join(f"M{x:.1f},{y:.1f}h0" for x, y in points)}" class="{css}"/>'


def grid(frame: Frame, ticks: Sequence[float], title: str, *, x_ticks: Sequence[float], x_unit: str = "") -> list[str]:
    """Title, lines and numbers of both axes; `x_unit` empty leaves the numbers of x out."""
    parts = [text(LEFT, TOP - 9, title, "panel")]
    for tick in ticks:
        y = frame.y(tick)
        parts.append(line((LEFT, y), (frame.width - RIGHT, y), "grid"))
        parts.append(text(LEFT - 6, y + 3.5, f"{tick:,.4g}", "tick", anchor="end"))
    for tick in x_ticks:
        x = frame.x(tick)
        parts.append(line((x, TOP), (x, frame.height - frame.bottom), "grid"))
        if x_unit:
            parts.append(text(x, frame.height - 6, f"{tick:g} {x_unit}", "tick", anchor="middle"))
    return parts


def level(frame: Frame, value: float, words: str, css: str) -> str:
    """A line across with its name at the right."""
    y = frame.y(value)
    name = text(frame.width - RIGHT + 6, y + 3.5, words, f"note {css}-text")
    return line((LEFT, y), (frame.width - RIGHT, y), css) + name


def nice_ticks(most: float, count: int = 4) -> list[float]:
    """Round numbers from 0 to `most`."""
    rough = most / count
    magnitude = 10.0 ** len(str(int(rough))) / 10 if rough >= 1 else 0.1
    step = next((m * magnitude for m in (1, 2, 2.5, 5, 10) if m * magnitude >= rough), rough)
    return [i * step for i in range(int(most / step + 1e-9) + 1)]
