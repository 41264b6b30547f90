#!/usr/bin/env python3
"""Joins the repetitions of bench/run: report.py RESULTS

Reads RESULTS/raw/REPETITION/PROGRAM.tsv and .raw, raw/guarantees.md and left-out; writes report.md, and plots/*.dat, which
plots.gp draws; prints the goals. A figure is the median of its repetitions, with the least and the greatest. A ratio has both
sides from one repetition; the one shown is the median of these. p99 and p99.9 are medians, max is the worst of all.

A goal whose figures are not there is "not measured". No time changes the exit code."""
import math
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
UNITS = {"ns": (1, 0), "us": (1e3, 1), "k/s": (1e3, 1), "M/s": (1e6, 2), "GB/s": (1e9, 2), "%": (1, 2), "/s": (1, 0),
         "MiB": (2**20, 1), "KiB": (2**10, 1), "": (1, 3)}    # as measure.c shows them: divisor, decimals
SECTIONS = [("Latency", ["latency", "peers_latency", "peers_aeron"]),
            ("Events per second", ["throughput", "peers_throughput", "peers_aeron"]),
            ("Who remembers events, and hands them to groups", ["peers_brokers"]),
            ("Size, producers, groups, keys, topics that are skipped", ["sweep"]),
            ("Journal", ["journal", "journal_throughput"]), ("Bridge", ["bridge_throughput", "bridge_latency"]),
            ("Footprint", ["footprint"])]
LETTERS = {"H": "a cache line's bare hop between two cores", "W": "a bare futex wake",
           "S": "a bare stream of copies through a ring of one producer, of the same size",
           "R": "half a round trip by bare rings, of the same size and a header", "A": "a bare append to a file",
           "D": "a bare pwrite and fdatasync", "B": "a bare client of Redis that does the same",
           "M": "the same in MULTI", "E": "evbus in the same program"}


def number(text):
    return float(text) if text else None


class Figure:
    """What one program says under one name, by repetition."""

    def __init__(self, program, name, unit):
        self.program, self.name, self.unit = program, name, unit
        self.limit = ""
        self.count = 0
        self.of = {key: {} for key in ("value", "ratio", "p99", "p99.9", "max")}

    def add(self, run, fields):
        for key, by_run in self.of.items():
            if (value := number(fields[key])) is not None:
                by_run[run] = value
        self.limit = fields["limit"] or self.limit
        self.count += int(fields["count"])


class Results:
    def __init__(self, folder):
        self.folder = folder
        self.head = []
        self.figures = []
        self.runs = sorted((int(at.name) for at in (folder / "raw").iterdir() if at.name.isdigit()))
        known = {}
        for run in self.runs:
            for path in sorted((folder / "raw" / str(run)).glob("*.tsv")):
                self._read(path, run, known)

    def _read(self, path, run, known):
        lines = path.read_text().splitlines()
        head = [line[2:] for line in lines if line.startswith("# ")]
        self.head = self.head or head
        names, *rows = [line.split("\t") for line in lines if not line.startswith("# ")]
        for row in rows:
            fields = dict(zip(names, row))
            key = (path.stem, fields["figure"])
            if key not in known:
                known[key] = Figure(path.stem, fields["figure"], fields["unit"])
                self.figures.append(known[key])
            known[key].add(run, fields)

    def find(self, program, *words):
        """Of the figures of a program that have all these words, upper or lower case."""
        return [figure for figure in self.figures
                if figure.program == program and all(word.lower() in figure.name.lower() for word in words)]

    def one(self, program, name):
        """The figure of this name, crowded or not."""
        for figure in self.figures:
            if figure.program == program and figure.name.replace(" (crowded)", "") == name:
                return figure
        return None

    def samples(self, program, name):
        """Of all repetitions, sorted."""
        found = []
        for run in self.runs:
            path = self.folder / "raw" / str(run) / f"{program}.raw"
            if path.exists():
                for line in path.read_text().splitlines():
                    if line.startswith(name + "\t") and " samples, ns\t" in line:
                        found += [int(text) for text in line.rsplit("\t", 1)[1].split()]
        return sorted(found)


# --- the tables -------------------------------------------------------------------------------------------------------


def digits(value, decimals):
    return f"{value:.{decimals if abs(value) < 1000 else 0}f}"


def spread(by_run, unit):
    divisor, decimals = UNITS[unit]
    values = [value / divisor for value in by_run.values()]
    middle = digits(statistics.median(values), decimals)
    if len(values) == 1:
        return f"{middle} {unit}"
    return f"{middle} ({digits(min(values), decimals)}..{digits(max(values), decimals)}) {unit}"


def spread_of_ratio(by_run, limit):
    values = list(by_run.values())
    if not limit or not values:
        return ""
    middle = f"{statistics.median(values):.2f} {limit}"
    return middle if len(values) == 1 else f"{middle} ({min(values):.2f}..{max(values):.2f})"


def tail(figure, key):
    divisor, decimals = UNITS[figure.unit]
    values = figure.of[key].values()
    if not values:
        return ""
    return digits((max(values) if key == "max" else statistics.median(values)) / divisor, decimals)


def kind(figure):
    """limit, evbus or peer: whose figure is it?"""
    if re.match(r"[A-Z]: |bare |redis-benchmark", figure.name):
        return "limit"
    return "peer" if figure.program.startswith("peers_") and not figure.name.startswith("evbus") else "evbus"


def figures_of(results, title, programs):
    """Of a section; a limit that several of its programs measure is shown once. peers_aeron has times and rates."""
    names = set()
    for figure in (figure for program in programs for figure in results.find(program)):
        if figure.program == "peers_aeron" and ("/s" in figure.unit) == (title == "Latency"):
            continue
        if kind(figure) != "limit" or figure.name not in names:
            names.add(figure.name)
            yield figure


def table(figures):
    order = {"limit": 0, "evbus": 1, "peer": 2}
    yield "| whose | what | median (min..max) | in the limit of the same repetition | p99 | p99.9 | max |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for figure in sorted(figures, key=lambda figure: order[kind(figure)]):
        yield (f"| {kind(figure)} | {figure.name} | {spread(figure.of['value'], figure.unit)} "
               f"| {spread_of_ratio(figure.of['ratio'], figure.limit)} "
               f"| {tail(figure, 'p99')} | {tail(figure, 'p99.9')} | {tail(figure, 'max')} |")


# --- the goals --------------------------------------------------------------------------------------------------------


def by_run(figure, key="value"):
    return figure.of[key] if figure is not None else {}


def each(function, *series):
    """function() of all of them, of each repetition that has them all."""
    runs = set(series[0]).intersection(*series[1:])
    return {run: function(*(one[run] for one in series)) for run in sorted(runs)}


def over(above, below):
    return each(lambda a, b: a / b if b else math.inf, above, below)


def best(figures, key="value", least=False):
    """The best of these peers, or of one's ways, of each repetition."""
    runs = sorted({run for figure in figures for run in figure.of[key]})
    choose = min if least else max
    return {run: choose(figure.of[key][run] for figure in figures if run in figure.of[key]) for run in runs}


def limit_of(figure):
    """What the figure's ratio is told in, by repetition."""
    return over(by_run(figure), by_run(figure, "ratio"))


class Goals:
    """Rows of the table: what, its bound, what this run has."""

    def __init__(self):
        self.rows = []

    def add(self, what, bound, series, unit="", at_least=False, note=""):
        wanted = f"{'>=' if at_least else '<='} {bound:g} {unit}".strip()
        if not series:
            self.rows.append((what, wanted, "not measured" + (f" ({note})" if note else ""), ""))
            return
        values = list(series.values())
        middle = statistics.median(values)
        is_met = middle >= bound if at_least else middle <= bound
        shown = f"{middle:.4g} {unit}".strip()
        if len(values) > 1:
            shown += f" ({min(values):.4g}..{max(values):.4g})"
        self.rows.append((what, wanted, shown, "met" if is_met else "NOT MET"))


def goals_of(results):
    goals = Goals()
    latency_goals(goals, results)
    throughput_goals(goals, results)
    journal_goals(goals, results)
    other_goals(goals, results)
    return goals.rows


def latency_goals(goals, results):
    def latency(name):
        return results.one("latency", name)

    handler = latency("evbus group spin, 64 B, ready")
    stamped = latency("evbus group spin, 64 B, stamped")
    ring = by_run(latency("R: bare ring, 2 cells, half a round trip"))
    hop = by_run(latency("H: bare hop of a cache line"))
    spinning = "publish() to handler, spinning, 64 B, ready"
    goals.add(f"{spinning}: bare ring with a frame of 128 B (R)", 1.1, over(by_run(handler), ring), "R")
    goals.add(f"{spinning}: stretch", 2.0, by_run(handler, "ratio"), "H")
    goals.add("the same, with id and time: less 0.6 H", 1.1,
              each(lambda value, h, r: (value - 0.6 * h) / r, by_run(stamped), hop, ring), "R")
    goals.add("the same, with id and time: stretch", 2.6, by_run(stamped, "ratio"), "H")
    goals.add(f"{spinning}: p99 in its p50", 1.6, over(by_run(handler, "p99"), by_run(handler)), "x")
    for peer in ("iceoryx", "Boost"):
        goals.add(f"{spinning}: {peer}'s time in ours", 7,
                  over(best(results.find("peers_latency", peer, "spin", " 64 B"), least=True),
                       by_run(results.one("peers_latency", "evbus group, spin, 64 B"))), "x", True)
    goals.add("publish() to handler, spinning, 512 B, ready", 3.4,
              by_run(latency("evbus group spin, 512 B, ready"), "ratio"), "H")
    goals.add("publish() to handler, spinning, 512 B, full: with JSON validation", 8,
              by_run(latency("evbus group spin, 512 B, full"), "ratio"), "H")
    paced = latency("evbus group block, paced 20,000/s, 64 B, ready")
    goals.add("publish() to handler, blocking, paced at 20,000/s", 1.15, by_run(paced, "ratio"), "W")
    goals.add("publish() to handler, blocking, paced at 20,000/s: p99", 2,
              over(by_run(paced, "p99"), limit_of(paced)), "W")
    for envelope, bound in (("ready", 1.1), ("stamped", 1.6)):
        cost = results.one("throughput", f"cost of publish, 64 B, {envelope}")
        goals.add(f"publish(), nobody asleep, 64 B, {envelope}", bound, by_run(cost, "ratio"), "H")
    redis = best(results.find("peers_brokers", "Redis", "latency"), least=True)
    goals.add("blocking, 300 B, journal on: Redis Streams' time in ours", 2,
              over(redis, by_run(results.one("peers_brokers", "evbus group, journal, latency, 300 B"))), "x", True)
    goals.add("spinning, 512 B, full: Redis Streams' time (300 B) in ours", 300,
              over(redis, by_run(latency("evbus group spin, 512 B, full"))), "x", True)


def throughput_goals(goals, results):
    def group(size, way):
        return results.one("throughput", f"evbus group{way[0]}, 1 member, 1 partition, no keys, {size} B, {way[1]}")

    batch = group(64, (", batch", "ready"))
    goals.add("events/s, 1 producer, 1 group, batched, 64 B", 1.3, by_run(batch, "ratio"), "S", True)
    goals.add("events/s, 1 producer, 1 group, batched, 512 B", 1.5,
              by_run(group(512, (", batch", "ready")), "ratio"), "S", True)
    one_by_one = by_run(group(64, ("", "stamped")))
    goals.add("events/s, one by one with ids, 64 B", 12, each(lambda value: value / 1e6, one_by_one), "M/s", True)
    ours = by_run(results.one("peers_throughput", "evbus group batch, spin, 64 B"))
    for program, peer, bound, note in (("peers_aeron", "Aeron", 2, "recorded: 0.5 S"),
                                       ("peers_throughput", "Boost", 5, ""), ("peers_throughput", "ZeroMQ", 5, ""),
                                       ("peers_throughput", "iceoryx", 20, "")):
        theirs = best(results.find(program, peer, " 64 B"))
        goals.add(f"events/s, batched, 64 B, in {peer}'s best", bound, over(ours, theirs), "x", True, note)
    goals.add("events/s, batched, 512 B, journal off, in Redis Streams' (300 B, nothing on disk, group and ack)", 50,
              over(by_run(group(512, (", batch", "ready"))),
                   best(results.find("peers_brokers", "Redis Streams, appendonly off, end to end"))), "x", True)

    def sweep(name):
        return by_run(results.one("sweep", name))

    goals.add("2 producers: total in that of 1 (1.0, less 5 % of noise)", 0.95,
              over(sweep("producers 2: publish to a reader"), sweep("producers 1: publish to a reader")), "x", True)

    def cost(n):
        return each(lambda publish, handle: publish + handle, sweep(f"one processor, {n} groups: CPU of publish()"),
                    sweep(f"one processor, {n} groups: CPU of all their handling"))

    for n in (4, 8):
        further = each(lambda more, one: (more - one) / (n - 1), cost(n), cost(1))
        goals.add(f"each further group of {n}, in what publish() and the first cost a processor", 0.25,
                  over(further, cost(1)), "x")


def journal_goals(goals, results):
    acked = results.one("journal_throughput", "evbus journaled and acked, 1 producer, 300 B, ready")
    what = "journal on, group, acks, 300 B"
    goals.add(f"events/s, {what}", 3, each(lambda value: value / 1e6, by_run(acked)), "M/s", True)
    goals.add(f"{what}, in the bare append (A)", 0.6, by_run(acked, "ratio"), "A", True)
    ours = by_run(results.one("peers_brokers", "evbus group, journal, end to end, 300 B"))
    for peer, theirs, bound in (("Redis everysec's", "Redis Streams, everysec, end to end", 20),
                                ("JetStream file's", "JetStream, file, end to end", 30)):
        goals.add(f"{what}, in {peer}", bound, over(ours, best(results.find("peers_brokers", theirs))), "x", True)
    goals.add("p99 of publish(), journal on, in that without (1.0, and 10 % of noise)", 1.1,
              over(by_run(results.one("journal", "publish, paced, journal on"), "p99"),
                   by_run(results.one("journal", "publish, paced, no journal"), "p99")), "x")
    goals.add("DISK: a single publish, in fdatasync (D)", 1.15,
              by_run(results.one("journal", "publish, ack disk, 1 thread"), "ratio"), "D")
    commit = best(results.find("journal", "events/s, ack disk", "batches of"))
    goals.add("DISK: group commit, 512 B", 1, each(lambda value: value / 1e6, commit), "M/s", True)
    goals.add("DISK: group commit, 300 B, in Redis always' best", 7,
              over(best(results.find("peers_brokers", "evbus group, ack disk, pipelined")),
                   best(results.find("peers_brokers", "Redis Streams, always, pipelined"))), "x", True)


def other_goals(goals, results):
    for fsync in ("no", "everysec", "always"):
        def bridge(name):
            return results.one("bridge_throughput", name)

        goals.add(f"bridge out, {fsync}, in a bare client with the same script (B)", 0.9,
                  by_run(bridge(f"bridge out, {fsync}"), "ratio"), "B", True)
        goals.add(f"bridge out, {fsync}, in MULTI (M)", 0.8,
                  by_run(bridge(f"bridge out, {fsync}, in MULTI"), "ratio"), "M", True)
        goals.add(f"bridge out, {fsync}: CPU per event", 1.5,
                  each(lambda ns: ns / 1e3, by_run(bridge(f"bridge out, {fsync}: CPU per event"))), "us")
    skipped = by_run(results.one("sweep", "skip: a group of 1 of 6 topics, events skipped"))
    goals.add("a group of 1 of 6 topics: events skipped", 50, each(lambda value: value / 1e6, skipped), "M/s", True)
    goals.add("idle bus: CPU of keeper, bridge, 10 sleeping members", 0.5,
              best(results.find("footprint", "idle: CPU of")), "% of a core")
    goals.add("memory of the catalogue's bus", 60, each(lambda n: n / 2**20, by_run(
        results.one("footprint", "memory: the shipped catalogue's bus"))), "MiB")
    for topics in ("one topic", "all topics"):
        more = results.find("footprint", "memory: a group", "more", topics)
        goals.add(f"memory per extra group, of {topics}", 100, each(lambda n: n / 2**10, best(more)), "KiB")
    goals.add("allocations per event, the most of publish, batch, reader, group", 0,
              best(results.find("footprint", "allocations of")), "")


# --- the plots' data --------------------------------------------------------------------------------------------------


def write_series(folder, name, series):
    """A block per series, its title above it; two empty lines between blocks, as gnuplot's index has it."""
    blocks = ['"{}"\n{}'.format(title, "\n".join(" ".join(map(str, point)) for point in points))
              for title, points in series if points]
    if blocks:
        (folder / f"{name}.dat").write_text("\n\n\n".join(blocks) + "\n")


def percentiles(samples):
    """x: how many nines, so that the tail has as much room as the rest."""
    points = []
    for step in range(0, 81):
        rest = 10 ** (-step / 20)
        if len(samples) * rest < 1:
            break
        points.append((step / 20, samples[min(len(samples) - 1, math.ceil(len(samples) * (1 - rest)))]))
    return points


def plot_latency(results, folder):
    for way, own in (("spin", ["evbus group spin, 64 B, ready", "evbus group spin, 64 B, full",
                               "R: bare ring, 2 cells, half a round trip", "bare ring, 1 cell, half a round trip"]),
                     ("block", ["evbus group block, 64 B, ready", "evbus group block, paced 20,000/s, 64 B, ready",
                                "W: bare futex wake"])):
        wanted = [("latency", name) for name in own]
        wanted += [(figure.program, figure.name) for program in ("peers_latency", "peers_aeron")
                   for figure in results.find(program, way, " 64 B") if kind(figure) == "peer"]
        write_series(folder, f"latency-{way}", [
            (name.replace(", 64 B", ""), percentiles(results.samples(program, name))) for program, name in wanted])
    write_series(folder, "latency-brokers", [(figure.name, percentiles(results.samples("peers_brokers", figure.name)))
                                             for figure in results.find("peers_brokers", ", latency, ")])


def plot_sweeps(results, folder):
    def points(pattern, divisor=1e6, times=False):
        found = []
        for figure in results.find("sweep"):
            if match := re.match(pattern, figure.name):
                x = int(match.group(1))
                values = [value / divisor * (x if times else 1) for value in figure.of["value"].values()]
                if not times or x > 0:
                    found.append((x, statistics.median(values), min(values), max(values)))
        return sorted(found)

    write_series(folder, "size", [("bare stream (S)", points(r"S: bare stream, (\d+) B")),
                                  ("batch to a reader", points(r"size (\d+) B: batch")),
                                  ("publish to a group", points(r"size (\d+) B: publish"))])
    write_series(folder, "producers", [("publish to a reader", points(r"producers (\d+):"))])
    published = r"groups (\d+): events published"
    write_series(folder, "groups", [("published (0 groups: a reader)", points(published)),
                                    ("handled, over all groups", points(published, times=True))])
    write_series(folder, "keys", [("publish to a group of one member, 4 partitions", points(r"keys (\d+):"))])
    write_series(folder, "one-processor",
                 [("publish()", points(r"one processor, (\d+) groups: CPU of publish", 1)),
                  ("all groups' handling", points(r"one processor, (\d+) groups: CPU of all", 1))])


def plot_bars(results, folder):
    def bars(name, figures):
        rows = []
        for place, figure in enumerate(figures):
            divisor = UNITS[figure.unit][0]
            values = [value / divisor for value in figure.of["value"].values()]
            rows.append(f'"{figure.name}" {place} {statistics.median(values)} {min(values)} {max(values)}')
        if rows:
            (folder / f"{name}.dat").write_text("\n".join(rows) + "\n")

    streams = results.find("peers_throughput", " 64 B") or results.find("throughput", " 64 B")
    streams += results.find("peers_aeron", "Aeron IPC, stream, 64 B")
    bars("peers", [figure for figure in streams if figure.unit == "M/s"])
    bars("brokers", [figure for figure in results.find("peers_brokers") if figure.unit == "k/s"])
    bars("journal", [figure for figure in results.find("journal_throughput") if "bytes" not in figure.name])
    bars("bridge", [figure for figure in results.find("bridge_throughput")
                    if figure.unit == "k/s" and "in MULTI" not in figure.name])
    write_series(folder, "bridge-latency", [(figure.name, percentiles(results.samples("bridge_latency", figure.name)))
                                            for figure in results.find("bridge_latency")])


PLOTS = {"Latency": ["latency-spin", "latency-block"], "Events per second": ["peers"],
         "Who remembers events, and hands them to groups": ["latency-brokers", "brokers"],
         "Size, producers, groups, keys, topics that are skipped":
         ["size", "producers", "groups", "one-processor", "keys"],
         "Journal": ["journal"], "Bridge": ["bridge", "bridge-latency"]}


# --- the report -------------------------------------------------------------------------------------------------------


def recorded():
    rows = [line.split("\t") for line in (HERE / "recorded.tsv").read_text().splitlines() if not line.startswith("#")]
    notes = [line[2:] for line in (HERE / "recorded.tsv").read_text().splitlines() if line.startswith("#")]
    yield from notes
    yield ""
    for place, row in enumerate(rows):
        yield "| " + " | ".join(row) + " |"
        if place == 0:
            yield "|---" * len(row) + "|"


def report(results, goals):
    folder = results.folder
    yield "# evbus, the machine's limits, and peers: one run\n"
    yield "\n".join("    " + line for line in results.head) + "\n"
    n = len(results.runs)
    yield (f"{n} repetition{'s' if n > 1 else ''} of everything, interleaved: a figure is the median (least..greatest). "
           "A ratio has both sides from the same repetition, and the median of these is shown. p99 and p99.9 are medians, "
           "max is the worst. Limits: "
           + "; ".join(f"{letter} {text}" for letter, text in LETTERS.items()) + ".\n")
    if (folder / "left-out").exists():
        yield "".join(f"* left out: {line}\n" for line in (folder / "left-out").read_text().splitlines())
    yield "## Goals\n"
    yield "| goal | bound | this run | |\n|---|---:|---:|---|"
    for row in goals:
        yield "| " + " | ".join(row) + " |"
    guarantees = folder / "raw" / "guarantees.md"
    if guarantees.exists() and guarantees.read_text().strip():
        yield "\n## What each of them promises\n\n" + guarantees.read_text().strip()
    for title, programs in SECTIONS:
        figures = list(figures_of(results, title, programs))
        if not figures:
            continue
        yield f"\n## {title}\n"
        yield from table(figures)
        drawn = [name for name in PLOTS.get(title, []) if (folder / "plots" / f"{name}.dat").exists()]
        if drawn:
            yield "\n" + "\n".join(f"![{name}](plots/{name}.svg)" for name in drawn)
    yield "\n## Recorded elsewhere\n"
    yield from recorded()


def main():
    folder = pathlib.Path(sys.argv[1])
    results = Results(folder)
    if not results.figures:
        print("no figures", file=sys.stderr)
        return 1
    plots = folder / "plots"
    plots.mkdir(exist_ok=True)
    plot_latency(results, plots)
    plot_sweeps(results, plots)
    plot_bars(results, plots)
    goals = goals_of(results)
    (folder / "report.md").write_text("\n".join(report(results, goals)) + "\n")
    print("\n".join(f"    {line}" for line in results.head))
    widths = [max(len(row[column]) for row in goals) for column in range(4)]
    for what, wanted, shown, verdict in goals:
        print(f"{what:<{widths[0]}}  {wanted:>{widths[1]}}  {shown:<{widths[2]}}  {verdict}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
