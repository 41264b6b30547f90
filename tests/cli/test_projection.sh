#!/usr/bin/env bash
# The worked example of docs/projection.md: a table that is rebuilt from history and then follows.
#
#   EVBUS=build/tools/evbus PROJECTION=build/docs/projection tests/cli/test_projection.sh [CASE...]
#
# What a case is, and what they share: helpers.sh. What the table should be is reckoned here, from what was published.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

PROJECTION=$(realpath "${PROJECTION:-$(dirname "$EVBUS")/../docs/projection}")
catalogue=$(cat "$source_root/share/catalogue.json")
export EVBUS_STATE_DIR=${EVBUS_STATE_DIR:-$scratch/state} # history is what all this is about
mkdir -p "$EVBUS_STATE_DIR"

# ---- helpers ---------------------------------------------------------------------------------------------------------

cat >"$scratch/orders.py" <<'END'
"""made FIRST LAST: the events of those orders, a file per topic, and added to what should be in the table.
is TABLE: is it what should be in it? Prints the first difference."""
import json, os, pathlib, sqlite3, sys
what, *rest = sys.argv[1:]
if what == "made":
    first, last = map(int, rest)
    lines = pathlib.Path(os.environ["ORDERS"]).read_text().splitlines()[first:last]
    with open("created", "w") as created, open("paid", "w") as paid, open("cancelled", "w") as cancelled, open("published", "a") as all:
        for i, line in enumerate(lines):
            order = json.loads(line, parse_float=str)
            print(line, file=created)
            print(order["orderId"], "placed", file=all)
            if i % 5 != 0:
                print('{"orderId":"%(orderId)s","customerId":"%(customerId)s","amount":%(total)s}' % order, file=paid)
                print(order["orderId"], "paid", order["customerId"], order["total"].replace(".", ""), file=all)
            if i % 10 in (0, 3):
                print('{"orderId":"%(orderId)s"}' % order, file=cancelled)
                print(order["orderId"], "cancelled", file=all)
else:
    states, revenue = {}, {}
    for line in open("published"):
        order, event, *payment = line.split()
        states.setdefault(order, set()).add(event)
        if payment:
            revenue[payment[0]] = revenue.get(payment[0], 0) + int(payment[1])
    by_state = {}
    for events in states.values():
        state = next(s for s in ("cancelled", "paid", "placed") if s in events)
        by_state[state] = by_state.get(state, 0) + 1
    if not os.path.exists(rest[0]):
        sys.exit("no table")
    table = sqlite3.connect(rest[0])
    found = (dict(table.execute("SELECT state, orders FROM orders_by_state")),
             dict(table.execute("SELECT customer, pence FROM revenue")))
    if found != (by_state, revenue):
        sys.exit(f"states {found[0]} instead of {by_state}, revenue of {sum(found[1].values())} instead of {sum(revenue.values())}")
END
export ORDERS=$source_root/share/northwind-orders.ndjson

publish() { # FIRST LAST [KEY]: what happened to these orders; payments first, since between logs no order is promised
    local key=(--key-field orderId)
    if [ $# -gt 2 ]; then key=(--key "$3"); fi
    python3 "$scratch/orders.py" made "$1" "$2" || fail 'no orders'
    for event in payments.succeeded:paid orders.created:created orders.cancelled:cancelled; do
        works pub "lomash.${event%:*}" --stdin "${key[@]}" --as order-payment-service <"${event#*:}"
    done
}

project() { # [--rebuild]: in the background, its pid in $projection
    "$PROJECTION" "$@" revenue.db >>projection.out 2>>projection.err &
    projection=$!
}

is_right() { python3 "$scratch/orders.py" is revenue.db >differs 2>&1; }
comes_right() { # within the deadline
    await_quietly is_right || fail "$(cat differs) $(cat projection.err)"
}
await_quietly() { (await "$@") >/dev/null; }

serves() { [ "$(readlink revenue.db)" = "revenue.db.$1" ]; }
has_applied() { [ "$(asks 'SELECT count(*) FROM applied')" -ge "$1" ]; }
asks() { # SQL: one number; 0 where there is no table yet
    python3 -c 'import sqlite3, sys
try: print(sqlite3.connect("file:revenue.db?mode=ro", uri=True).execute(sys.argv[1]).fetchone()[0])
except sqlite3.OperationalError: print(0)' "$1"
}
group_says() { # GROUP PYTHON EXPRESSION over g
    "$EVBUS" group show "$1" --json 2>/dev/null | python3 -c 'import json, sys
text = sys.stdin.read()
g = json.loads(text) if text else sys.exit(1) # no such group
sys.exit(0 if eval(sys.argv[1]) else 1)' "$2"
}
has_group() { "$EVBUS" group ls --names 2>/dev/null | grep -qx -e "$1"; }
is_killed() { kill -KILL "$1" && await is_over "$1"; }
restart_of_the_host() { rm /dev/shm/evbus."$EVBUS_BUS".* || fail 'there was no memory'; }

# ---- cases -----------------------------------------------------------------------------------------------------------

it_is_built_from_history_then_follows_and_a_rebuild_says_the_same() {
    make_bus
    publish 0 300
    restart_of_the_host
    project
    await serves a
    comes_right
    publish 300 500 # it follows
    comes_right
    kill "$projection"
    ends_with "$projection" 0
    publish 500 600 # while it is away
    restart_of_the_host
    project
    comes_right
    cp "$(readlink revenue.db)" old.db
    project --rebuild
    await serves b
    comes_right
    publish 600 700
    comes_right
    kill "$projection"
    ends_with "$projection" 0
}

it_is_right_after_a_kill_at_any_moment() {
    make_bus
    publish 0 100
    project
    comes_right
    for n in 1 2; do # a third one may spend the third attempt
        publish $((n * 100)) $((n * 100 + 100)) &
        await has_applied $((n * 180 + 60))
        is_killed "$projection"
        wait $!
        project
        comes_right
    done
}

it_loses_nothing_when_it_is_killed_with_events_in_hand() {
    make_bus
    publish 0 50
    project
    comes_right
    python3 -c 'import sqlite3, sys
sqlite3.connect("revenue.db", isolation_level=None).execute("BEGIN IMMEDIATE")
open("locked", "w"); sys.stdin.read()' <&"$never" & # nobody else can write
    local lock=$!
    await test -e locked
    publish 50 100
    await group_says revenue-a 'g["pending"] > 0'
    is_killed "$projection"
    is_killed "$lock"
    project
    comes_right
    await group_says revenue-a 'g["lag"] == 0 and g["pending"] == 0'
    group_says revenue-a 'g["redelivered"] > 0' || fail 'it had nothing in hand'
}

it_counts_an_event_once_that_was_published_twice() {
    make_bus
    publish 0 20
    project
    comes_right
    for _ in 1 2; do
        works pub lomash.payments.succeeded '{"orderId":"1","customerId":"ME","amount":1.50}' --key 1 --id "$ID" --as order-payment-service
    done
    echo '1 paid ME 150' >>published
    comes_right
    await group_says revenue-a 'g["lag"] == 0 and g["pending"] == 0'
    comes_right
}

it_leaves_what_it_does_not_know_to_the_dead_letters() {
    make_bus
    project
    await serves a
    works pub lomash.orders.created '{"orderId":"1"}' --key 1 --version 2.0 --as order-payment-service
    works pub lomash.payments.succeeded '{"orderId":"1","customerId":"ME","amount":"much"}' --key 1 --as order-payment-service
    publish 0 20
    comes_right
    await group_says revenue-a 'g["deadLetters"] == 2'
    works tail lomash.dlq.revenue-a --from earliest --timeout 0
    prints 'not of a schema we know'
}

it_serves_the_old_table_until_the_new_one_is_whole() {
    make_bus
    publish 0 200
    project
    comes_right
    local old=$projection
    exec {reader}<revenue.db
    kill -STOP "$old" # also one that is stopped does not hold it up
    project --rebuild
    await serves b
    await test ! -e revenue.db.a
    comes_right
    [ "$(head -c 15 <&"$reader")" = 'SQLite format 3' ] || fail 'who had the old one open has it no more'
    kill -CONT "$old"
    ends_with "$old" 1
    has_line projection.err 'another table has taken its place' || fail "$(cat projection.err)"
    if has_group revenue-a; then fail 'the old group is still there'; fi
    publish 200 300
    comes_right
}

it_is_not_served_before_it_is_whole() {
    make_bus
    publish 0 800 one # 1600 events, of which no two of a log can be in hand at once
    project
    local deadline=$((SECONDS + 60))
    until [ -L revenue.db ] || [ "$SECONDS" -ge "$deadline" ]; do :; done # await would look too late
    kill -STOP "$projection"
    has_applied 1400 || fail "of 1600 events it has $(asks 'SELECT count(*) FROM applied')"
    kill -CONT "$projection"
    comes_right
}

it_starts_a_rebuild_again_that_was_killed() {
    make_bus
    publish 0 100
    project
    comes_right
    local old=$projection
    works group add revenue-b lomash.orders.created # as if it had begun, and been killed
    echo rubbish >revenue.db.b
    project --rebuild
    await serves b
    ends_with "$old" 1
    comes_right
}

it_builds_a_table_anew_that_is_gone() {
    make_bus
    publish 0 100
    project
    comes_right
    is_killed "$projection"
    rm revenue.db.*
    project
    await serves b
    comes_right
    is_killed "$projection"
    rm revenue.db
    project
    await serves a
    comes_right
    await test ! -e revenue.db.b
}

it_never_takes_the_place_of_a_file_that_is_not_its_own() {
    make_bus
    echo mine >revenue.db
    project
    ends_with "$projection" 1
    [ "$(cat revenue.db)" = mine ] || fail 'it is overwritten'
}

it_tells_where_history_begins() { # a file that nobody needs goes when the one behind it is older than that
    catalogue='{ "namespace": "lomash", "defaults": { "partitions": 1, "ring": "1MiB", "retention": "1s" }, "topics": {
      "lomash.orders.created": { "producers": ["order-payment-service"], "groups": [] },
      "lomash.orders.cancelled": { "producers": ["order-payment-service"], "groups": [] },
      "lomash.payments.succeeded": { "producers": ["order-payment-service"], "groups": [] } } }'
    make_bus
    publish 0 100
    project
    comes_right
    kill "$projection"
    ends_with "$projection" 0
    if [ -s projection.err ]; then fail "$(cat projection.err)"; fi
    restart_of_the_host # the next life writes files of its own
    mv published first
    publish 100 200
    mv published second
    cat first second >published
    project
    comes_right
    await stat_says 'all(int(logs["lomash." + name]["journal"]["oldest"]) > 0 for name in ("orders", "payments"))'
    comes_right # what is in the table stays
    project --rebuild
    await serves b
    cp second published # all that a rebuild can know
    comes_right
    has_line projection.err 'of lomash.orders/0 nothing is kept before @' || fail "$(cat projection.err)"
    has_line projection.err 'of lomash.payments/0 nothing is kept before @' || fail "$(cat projection.err)"
}

it_is_quoted_word_for_word() {
    python3 - "$source_root/docs" >quotes 2>&1 <<'END' || fail "$(cat quotes)"
import pathlib, re, sys
docs = pathlib.Path(sys.argv[1])
program = (docs / "projection.c").read_text()
quotes = re.findall(r"^```c\n(.*?)^```", (docs / "projection.md").read_text(), re.DOTALL | re.MULTILINE)
assert len(quotes) >= 3, "no quotes"
for quote in quotes:
    assert quote in program, "not in the program:\n" + quote
END
}

run_cases "$@"
