#!/usr/bin/env bash
# test_journal.sh: evbus journal, and evbus tail over all that a bus remembers, as typed.
#
#     EVBUS=build/dev/tools/evbus tests/cli/test_journal.sh [CASE...]

catalogue='{ "namespace": "lomash", "defaults": { "partitions": 1, "ring": "4KiB", "journal": true }, "tests": true,
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": [] },
              "lomash.content.blog.published": { "producers": ["editor"], "groups": [] } } }'

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"
export EVBUS_STATE_DIR="$scratch/state"

fill() { # FROM TO: events {"n":FROM} to {"n":TO}, in the order of their numbers
    seq "$1" "$2" | sed 's/.*/{"n":&}/' >events
    works pub lomash.orders.created --as shop --stdin <events
}

forget_memory() { rm /dev/shm/evbus."$EVBUS_BUS".*; }
numbers() { grep -oE '"n":[0-9]+' out | cut -d: -f2; } # of the events that were printed
prints_numbers() { # FROM TO
    if ! cmp -s <(numbers) <(seq "$1" "$2"); then
        fail "not $1 to $2: $(numbers | wc -l) lines, $(numbers | head -n 1) to $(numbers | tail -n 1)"
    fi
}

# ---- tail over all of history ----------------------------------------------------------------------------------------

it_tails_more_than_the_rings_have() {
    make_bus
    fill 1 9000
    works tail --from earliest --timeout 0 --json
    is_silent
    prints_numbers 1 9000
    forget_memory
    works tail --from earliest --timeout 0 --json
    prints_numbers 1 9000
    fill 9001 9100
    works tail --from earliest --timeout 0 --json
    prints_numbers 1 9100
}

it_tails_from_a_time_that_stands_in_an_old_file() {
    local at
    make_bus
    fill 1 3000
    works tail --from earliest --timeout 0 --json
    at=$(python3 -c 'import json; print(json.loads(open("out").readlines()[1999])["timestamp"])')
    first=$(python3 -c 'import json, sys
print(next(json.loads(line)["payload"]["n"] for line in open("out") if json.loads(line)["timestamp"] >= sys.argv[1]))' "$at")
    fill 3001 9000
    works tail --from "$at" --timeout 0 --json
    prints_numbers "$first" 9000
    forget_memory
    works tail --from "$at" --timeout 0 --json
    prints_numbers "$first" 9000
}

it_is_let_go_by_a_bus_that_is_busy() {
    make_bus
    fill 1 2000
    yes '{"n":0}' | "$EVBUS" pub lomash.content.blog.published --stdin --as editor >/dev/null 2>&1 &
    await stat_says 'logs["lomash.content"]["tail"] > "9"'
    works tail --from earliest --timeout 0 --json 'lomash.orders.*'
    prints_numbers 1 2000
    works tail --from earliest --timeout 0 --json
    grep -v '"n":0}' out >ours && mv ours out
    prints_numbers 1 2000
}

run_cases "$@"
