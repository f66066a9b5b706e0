"""Draws what `script` has recorded as an animated SVG: terminal_svg.py TIMING OUTPUT COLUMNS ROWS. It knows of a terminal what the
demo uses: lines that scroll, a line that is written over, colours. Each version of a line is one text element that is visible for
its time; without animation a viewer shows the end. Silences are cut to two seconds, what is longer than LONGEST goes faster, and before a heading
there is time to read."""
import codecs
import re
import sys
from html import escape

LONGEST_SILENCE = 2.0
LONGEST = 30.0
TO_READ = 3.0
LAST_FRAME = 6.0
WIDTH, HEIGHT, MARGIN = 8.4, 18, 12  # of a character, of a line, around all
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "36": "#79c0ff"}
TOKEN = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])|(\r|\n)|([^\x1b\r\n]+)")


class Screen:
    """Lines of (character, style); `versions` has of each line since when it looks as it does."""

    def __init__(self):
        self.lines = [[]]
        self.column = 0
        self.style = ""
        self.versions = {}  # line: [(since, spans)]
        self.lengths = [(0.0, 1)]

    def write(self, text, now):
        touched = set()
        for match in TOKEN.finditer(text):
            arguments, command, control, plain = match.groups()
            if command == "m":
                self.style = self.styled(arguments)
            elif command == "K":
                del self.lines[-1][self.column:]
                touched.add(len(self.lines) - 1)
            elif control == "\r":
                self.column = 0
            elif control == "\n":
                self.lines.append([])
                self.column = 0
                touched.add(len(self.lines) - 1)
            elif plain:
                line = self.lines[-1]
                line.extend([(" ", "")] * (self.column - len(line)))
                line[self.column:self.column + len(plain)] = [(character, self.style) for character in plain]
                self.column += len(plain)
                touched.add(len(self.lines) - 1)
        for number in touched:
            self.versions.setdefault(number, []).append((now, spans_of(self.lines[number])))
        self.lengths.append((now, len(self.lines)))

    @staticmethod
    def styled(arguments):
        style = ""
        for code in arguments.split(";"):
            if code == "1":
                style = "bold"
            elif code in COLOURS:
                style = code
        return style


def spans_of(line):
    spans = []
    for character, style in line:
        if spans and spans[-1][1] == style:
            spans[-1][0] += character
        else:
            spans.append([character, style])
    return [(text, style) for text, style in spans]


def read(timing, output):
    """The screen as it was drawn, its duration, and how much faster that is than it was."""
    with open(timing, encoding="ascii") as file:
        steps = [(min(float(delay), LONGEST_SILENCE), int(size)) for delay, size in (line.split() for line in file)]
    faster = max(1.0, sum(delay for delay, _ in steps) / LONGEST)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    screen, now = Screen(), 0.0
    with open(output, "rb") as data:
        data.readline()  # script's own first line
        for delay, size in steps:
            text = decoder.decode(data.read(size))
            now += delay / faster + (TO_READ if "== " in text else 0)
            screen.write(text, now)
    return screen, now, faster


def texts(spans):
    attributes = {"": "", "bold": ' font-weight="bold"'}
    return "".join(f'<tspan{attributes.get(style) if style in attributes else f" fill={chr(34)}{COLOURS[style]}{chr(34)}"}>{escape(text)}</tspan>'
                   for text, style in spans)


def animated(name, values, end):
    """A discrete animation of an attribute: (since, value), the first at 0."""
    seen = {}
    for since, value in values:
        seen[round(min(since / end, 1), 5)] = value
    return (f'<animate attributeName="{name}" dur="{end:.2f}s" repeatCount="indefinite" calcMode="discrete" '
            f'keyTimes="{";".join(f"{time:g}" for time in seen)}" values="{";".join(seen.values())}"/>')


def main(timing, output, columns, rows):
    screen, end, faster = read(timing, output)
    end += LAST_FRAME
    width, height = columns * WIDTH + 2 * MARGIN, rows * HEIGHT + 2 * MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}">')
    print(f"<title>make demo, {faster:.1f} times as fast as it was; silences are cut</title>")
    print(f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/><svg x="{MARGIN}" y="{MARGIN}" width="{columns * WIDTH:g}" height="{rows * HEIGHT}">')
    scrolled = [(since, max(0, length - rows) * HEIGHT) for since, length in screen.lengths]
    steps = [scrolled[0]] + [now for before, now in zip(scrolled, scrolled[1:]) if now[1] != before[1]]
    last = steps[-1][1]
    # The scrolled height by the y of a nested svg, which an animation may set.
    print(f'<svg y="{-last}" overflow="visible" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" fill="#e6edf3" xml:space="preserve">')
    print(animated("y", [(since, str(-offset)) for since, offset in steps], end))
    for number, versions in sorted(screen.versions.items()):
        shown = [version for version, follower in zip(versions, versions[1:] + [None]) if follower is None or follower[0] > version[0]]
        for version, follower in zip(shown, shown[1:] + [None]):
            since, spans = version
            if not "".join(text for text, _ in spans).strip():
                continue
            times = [(0.0, "hidden"), (since, "visible")] + ([(follower[0], "hidden")] if follower else [])
            print(f'<text y="{(number + 1) * HEIGHT - 4}" visibility="{"hidden" if follower else "visible"}">'
                  f'{animated("visibility", times, end)}{texts(spans)}</text>')
    print("</svg></svg></svg>")


main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
