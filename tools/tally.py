#!/usr/bin/env python3
"""Count the test cases of one `meson test`, from its meson-logs/testlog.json: tally.py testlog.json

Every program closes with its own counts: Criterion's synthesis, or "N passed, N failed[, N skipped]". One that ends
without, that neither ran nor skipped anything, or that fails although it counted no failure, is itself a failed case.
What failed is told on stderr, each with the end of its output; stdout is two numbers, passed and failed, then the
programs that failed."""
import json
import re
import sys

CRITERION = re.compile(r"Synthesis: Tested: (\d+) \| Passing: (\d+)")
OURS = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?", re.MULTILINE)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LINES = 40


def count(test):
    text = COLOUR.sub("", test.get("stdout", "") + "\n" + test.get("stderr", ""))
    passed = failed = skipped = 0
    if found := CRITERION.findall(text):
        tested, passed = map(int, found[-1])
        failed = tested - passed
    elif found := OURS.findall(text):
        passed, failed, skipped = (int(n or 0) for n in found[-1])
    if failed == 0 and (passed + skipped == 0 or test["result"] not in ("OK", "SKIP")):
        failed = 1
    return passed, failed, text


total_passed = total_failed = 0
programs = []
for line in open(sys.argv[1], encoding="utf-8", errors="replace"):
    test = json.loads(line)
    name = test["name"].split(" / ")[-1]
    passed, failed, text = count(test)
    total_passed += passed
    total_failed += failed
    if failed:
        programs.append(name)
        print(f"--- {name}: {test['result']}, {failed} failed; the end of what it said:", file=sys.stderr)
        print("\n".join(text.strip().splitlines()[-LINES:]), file=sys.stderr)
print(total_passed, total_failed, *programs)
