#!/usr/bin/python3
"""Draws what the workload `pace` measured: CPU per delivery by node.pace_ms, beside the bare loop.

    make bench W=pace
    tests/bench/plot_pace.py build/bench.json >docs/pace.svg

Takes several files; each point is the median of all runs in them. The ordinate is logarithmic.
"""
import json
import math
import statistics
import sys

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 48, 48
COLOURS = ("#1f5fa8", "#b3541e")
TICKS_US = (0.1, 0.2, 0.5, 1, 2, 5, 10)


def medians(paths):
    """{rate: {pace_ms: {kind: µs}}}"""
    found = {}
    for path in paths:
        with open(path, encoding="ascii") as f:
            runs = json.load(f)["runs"]
        for name, pairs in runs.items():
            if name.startswith("pace "):
                _, rate, pace_ms = name.split()
                found.setdefault(int(rate), {}).setdefault(int(pace_ms), []).extend(pairs)
    return {rate: {pace_ms: {kind: statistics.median(p[kind]["cpu_us_per_delivery"] for p in pairs)
                             for kind in ("node", "bare")}
                   for pace_ms, pairs in sorted(by_pace.items())}
            for rate, by_pace in sorted(found.items())}


def text(x, y, words, anchor="middle", colour="#333"):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def draw(found):
    paces = sorted({p for by_pace in found.values() for p in by_pace})
    values = [v for by_pace in found.values() for point in by_pace.values()
              for v in point.values()]
    low = max(t for t in TICKS_US if t <= min(values))
    high = min(t for t in TICKS_US if t >= max(values))

    def x_of(pace_ms):
        return LEFT + (WIDTH - LEFT - RIGHT) * paces.index(pace_ms) / max(len(paces) - 1, 1)

    def y_of(us):
        share = math.log(us / low) / math.log(high / low)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share

    for us in (t for t in TICKS_US if low <= t <= high):
        yield (f'<line x1="{LEFT}" y1="{y_of(us):.1f}" x2="{WIDTH - RIGHT}" y2="{y_of(us):.1f}" '
               'stroke="#ddd"/>')
        yield text(LEFT - 8, y_of(us) + 4, f"{us:g}", "end")
    for pace_ms in paces:
        yield text(x_of(pace_ms), HEIGHT - BOTTOM + 18, pace_ms)
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "node.pace_ms")
    yield text(LEFT - 40, TOP - 26, "CPU per delivery, µs", "start")
    for i, (rate, by_pace) in enumerate(found.items()):
        colour = COLOURS[i % len(COLOURS)]
        yield text(WIDTH - RIGHT, TOP - 26 + 16 * i,
                   f"{rate} messages/s to each of 1,000 clients", "end", colour)
        for kind, dashes in (("node", ""), ("bare", ' stroke-dasharray="5 4"')):
            points = " ".join(f"{x_of(p):.1f},{y_of(us[kind]):.1f}" for p, us in by_pace.items())
            yield (f'<polyline points="{points}" fill="none" stroke="{colour}" '
                   f'stroke-width="2"{dashes}/>')


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
          'font-family="sans-serif" font-size="12">')
    print("<title>CPU per delivery by node.pace_ms; dashed: a bare loop of sends</title>")
    print(f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>')
    print("\n".join(draw(medians(sys.argv[1:]))))
    print("</svg>")


if __name__ == "__main__":
    main()
