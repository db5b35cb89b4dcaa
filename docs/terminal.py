# Draws a terminal's text as an SVG picture: python docs/terminal.py "command" < output.txt > docs/demo.svg
# Plain text in a fixed-width font: it stays sharp, can be searched, and a change of it can be read in a diff.
"""Render terminal output as SVG."""

import sys
from html import escape

LINE, COLUMN, MARGIN, BAR = 17, 7.8, 16, 28


def picture(command: str, output: str) -> str:
    """Return an SVG of a terminal that ran `command` and shows `output`."""
    lines = [f"$ {command}", *output.rstrip("\n").expandtabs().split("\n")]
    width = int(2 * MARGIN + COLUMN * max(map(len, lines)))
    height = BAR + 2 * MARGIN + LINE * len(lines) - 4
    top = BAR + MARGIN + 9
    rows = [
        f'<text x="{MARGIN}" y="{top + LINE * number}"{colour(line, number)}>{escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    ]
    buttons = [f'<circle cx="{MARGIN + 18 * i}" cy="14" r="5" fill="#4b5263"/>' for i in range(3)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}">',
            f"<title>{escape(command)}</title>",
            f'<rect width="{width}" height="{height}" rx="8" fill="#1e222a"/>',
            *buttons,
            '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13" '
            'fill="#d7dae0" xml:space="preserve">',
            *rows,
            "</g>",
            "</svg>\n",
        ]
    )


def colour(line: str, number: int) -> str:
    """Set apart the command, and what the demo says about itself."""
    if number == 0:
        return ' fill="#98c379"'
    return ' fill="#61afef"' if line.startswith("[") and line.endswith("]") else ""


if __name__ == "__main__":
    sys.stdout.write(picture(sys.argv[1], sys.stdin.read()))
