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
    yes '{"n":0}' | head -n 100000 | "$EVBUS" pub lomash.content.blog.published --stdin --as editor >/dev/null 2>&1 &
    await stat_says 'int(logs["lomash.content"]["tail"]) > 1000'
    works tail --from earliest --timeout 0 --json 'lomash.orders.*'
    prints_numbers 1 2000
    works tail --from earliest --timeout 0 --json
    grep -v '"n":0}' out >ours && mv ours out
    prints_numbers 1 2000
}

# ---- journal ---------------------------------------------------------------------------------------------------------

end_keeper() { # all is on disk, and its marks
    "$EVBUS" tail >/dev/null &
    local keeper=$!
    await stat_says 's["keeper"] is not None and all(p["journal"]["synced"] == p["tail"] for p in s["partitions"])'
    kill -TERM "$keeper"
    ends_with "$keeper" 0
}

folder() { printf '%s/%s' "$EVBUS_STATE_DIR" "$EVBUS_BUS"; }
segments() { ls "$(folder)"/lomash.orders/0/*.seg; }
flip() { # FILE OFFSET
    python3 -c 'import sys
file = open(sys.argv[1], "r+b")
file.seek(int(sys.argv[2]))
byte = file.read(1)
file.seek(int(sys.argv[2]))
file.write(bytes([byte[0] ^ 1]))' "$1" "$2"
}
frames() { # FILE: the byte where each event in it begins
    python3 -c 'import sys
cells = open(sys.argv[1], "rb").read()
header = int.from_bytes(cells[12:16], "little")
print(*[at for at in range(header, len(cells), 64) if cells[at:at + 8] == b"evbusfrm" and cells[at + 9] == 1])' "$1"
}
records() { # PYTHON EXPRESSION over r, the records that were printed
    python3 -c 'import json, sys
r = [json.loads(line) for line in open("out")]
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1" || fail "not so: $1"
}

it_lists_the_files_of_each_partition() {
    make_bus
    fill 1 3000
    end_keeper
    works journal ls
    is_silent
    prints "folder $(folder)"
    grep -qE "^lomash.orders/0 +$(segments | wc -l) +0 +[0-9]+ +[0-9]+ +[0-9.]+  20..-..-..T" out || fail 'no row of lomash.orders/0'
    works journal ls --json
    records 'r[0]["record"] == "bus" and r[0]["incarnation"] == 1'
    records '[x["files"] for x in r if x["record"] == "partition" and x["log"] == "lomash.orders"] == [sum(
        x["record"] == "segment" and x["log"] == "lomash.orders" for x in r)]'
    records 'all(isinstance(x["position"], str) and x["damaged"] is None for x in r if x["record"] == "segment")'
    mv out before
    forget_memory
    works journal ls --json
    cmp -s out before || fail 'not the same without memory'
    cp -a "$(folder)" copy
    works journal ls --dir copy
    prints 'folder copy'
    prints lomash.content/0
}

it_verifies_a_whole_bus_and_a_copy() {
    make_bus
    fill 1 3000
    end_keeper
    works journal verify
    is_silent
    grep -qE '^[0-9]+ files, [0-9]+ frames, [0-9]+ bytes: all is whole$' out || fail 'no counts'
    n_lines out 1 || fail 'more than the counts'
    works journal verify --json
    records 'len(r) == 1 and r[0]["record"] == "verified" and r[0]["events"] == 3000 and r[0]["damaged"] == 0'
    cp -a "$(folder)" copy
    forget_memory
    works journal verify --dir copy/
    works rm
    works journal verify --dir copy
    refused 69 'no bus remembers there' journal verify
}

it_names_each_damage_and_exports_all_else() {
    local first newest at position
    make_bus
    fill 1 3000
    end_keeper
    first=$(segments | head -n 1) newest=$(segments | tail -n 1)
    at=$(frames "$first" | cut -d' ' -f10)
    position=$(((at - 4096) / 64))
    flip "$first" $((at + 70))
    run journal verify
    exits 1
    is_silent
    prints "lomash.orders/0@$position..$((position + 2)) $first at $position: no whole frame stands there"
    grep -qE ': 1 damaged$' out || fail 'no counts'
    run journal verify --json
    exits 1
    records "r[0][\"position\"] == \"$position\" and r[0][\"at\"] == \"$at\" and r[0][\"file\"] == \"$first\""
    run journal export
    exits 70
    says "$first at $position"
    cmp -s <(numbers) <(seq 1 3000 | sed 10d) || fail "not all but the tenth: $(numbers | wc -l)"
    flip "$newest" 60
    run journal verify
    exits 1
    prints "$newest: its header is damaged"
    run journal ls
    exits 0
    prints "! $newest: its header is damaged"
}

it_exports_what_tail_prints() {
    make_bus
    fill 1 3000
    works pub lomash.content.blog.published '{"n":1, "ü": "x"}' --as editor --key k
    works tail --from earliest --timeout 0 --json
    mv out tailed
    works journal export
    is_silent
    cmp -s out tailed || fail 'other bytes than tail'
    works tail --from earliest --timeout 0 --json --meta 'lomash.content.**'
    mv out tailed
    works journal export --meta 'lomash.content.**'
    cmp -s out tailed || fail 'other bytes than tail'
    forget_memory
    works journal export 'lomash.orders.*'
    prints_numbers 1 3000
}

it_exports_from_a_time_to_a_time() {
    local from to
    make_bus
    fill 1 1000
    works journal export
    from=$(head -n 1 out | grep -oE '20[0-9-]+T[0-9:.]+Z')
    await later "$from"
    to=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
    await later "$to"
    fill 1001 2000
    works journal export --to "$to"
    prints_numbers 1 1000
    works journal export --from "$to"
    prints_numbers 1001 2000
    works journal export --from earliest --to "$from"
    if ! numbers | head -n 1 | grep -qx 1; then fail 'not from the first one on'; fi
    works journal export --to 2020-01-01T00:00:00Z
    prints_nothing
}
later() { [[ "$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)" > "$1" ]]; }

it_ends_on_a_busy_bus_and_finds_nothing_damaged_there() {
    local i
    make_bus
    fill 1 2000
    "$EVBUS" tail >/dev/null 2>&1 &
    yes '{"n":0}' | head -n 100000 | "$EVBUS" pub lomash.content.blog.published --stdin --as editor >/dev/null 2>&1 &
    await stat_says 'int(logs["lomash.content"]["tail"]) > 1000'
    for i in 1 2 3; do
        works journal verify
        works journal ls
        works journal export
        grep -v '"n":0}' out >ours && mv ours out
        prints_numbers 1 2000
    done
}

it_says_what_makes_no_sense_of_a_journal() {
    make_bus
    refused 2 'ls, verify or export?' journal
    refused 2 'did you mean journal verify?' journal verfy
    refused 2 'is one too many' journal ls x
    refused 2 '--from is for export' journal verify --from earliest
    refused 2 '--to is for export' journal ls --to 2026-02-01T00:00:00Z
    refused 2 'expected earliest or a time' journal export --from latest
    refused 2 'expected earliest or a time' journal export --from @7
    refused 2 '--dir is for ls and verify' journal export --dir .
    refused 69 './nothing: no bus remembers there' journal ls --dir ./nothing
    refused 69 "$PWD: no bus remembers there" journal verify --dir "$PWD"
    refused 1 'fits no topic' journal export lomash.nothing.here
    works rm
    refused 69 'no bus remembers there' journal ls
    refused 69 "$EVBUS_BUS" journal export
    mkdir foreign && printf 'not ours' >foreign/bus
    refused 70 'foreign/bus is damaged, or no evbus wrote it' journal verify --dir foreign
}

run_cases "$@"
