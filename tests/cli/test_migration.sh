#!/usr/bin/env bash
# The worked example of docs/migration.md: version 1, both, version 2, and the consumers switched one by one.
#
#   EVBUS=build/tools/evbus MIGRATION=build/docs/migration tests/cli/test_migration.sh [CASE...]
#
# What a case is, and what they share: helpers.sh. What each group should have handled is reckoned here, from the orders and
# from what the producer has printed. A member is stopped in the midst of it: it gets its SIGTERM while events wait for it.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

MIGRATION=$(realpath "${MIGRATION:-$(dirname "$EVBUS")/../docs/migration}")
export ORDERS=$source_root/share/northwind-orders.ndjson
export EVBUS_STATE_DIR=${EVBUS_STATE_DIR:-$scratch/state}
mkdir -p "$EVBUS_STATE_DIR"

# As in the document; billing and mailer say what they accept by themselves.
catalogue=$(python3 -c 'import re, sys
print(re.search(r"^```json\n(.*?)^```", open(sys.argv[1]).read(), re.DOTALL | re.MULTILINE).group(1))' "$source_root/docs/migration.md")

# ---- helpers ---------------------------------------------------------------------------------------------------------

produce() { # VERSIONS FIRST LAST: these orders; their ids in produced.VERSIONS
    sed -n "$(($2 + 1)),$3p" "$ORDERS" | "$MIGRATION" produce "$1" >>"produced.$1" 2>produce.err || fail "$(cat produce.err)"
}

member() { # NAME GROUP CODE: in the background, its pid in pid.NAME; it has joined
    "$MIGRATION" consume "$2" "$1" "$3" "$2.handled" 2>>"$1.err" &
    echo $! >"pid.$1"
    await group_says "$2" "any(m['pid'] == $! for m in g['members'])"
}

leaves() { # NAME
    local pid
    pid=$(cat "pid.$1")
    kill -TERM "$pid"
    ends_with "$pid" 0
}

# In the midst: both stand still while orders come, and the one that goes hears of it before it goes on.
is_switched() { # NAME OTHER GROUP CODE VERSIONS FIRST LAST: NAME is replaced by NAME-CODE while orders come
    local pid
    pid=$(cat "pid.$1")
    kill -STOP "$pid" "$(cat "pid.$2")"
    await is_stopped "$pid"
    await is_stopped "$(cat "pid.$2")"
    produce "$5" "$6" "$7"
    kill -TERM "$pid"
    kill -CONT "$pid" "$(cat "pid.$2")"
    ends_with "$pid" 0
    member "$1-$4" "$3" "$4"
}

group_says() { # GROUP PYTHON EXPRESSION over g
    "$EVBUS" group show "$1" --json 2>/dev/null | python3 -c 'import json, sys
text = sys.stdin.read()
g = json.loads(text) if text else sys.exit(1)
sys.exit(0 if eval(sys.argv[1]) else 1)' "$2"
}

has_done_all() { await group_says "$1" 'g["lag"] == 0 and g["pending"] == 0'; }

cat >"$scratch/check.py" <<'END'
"""GROUP MEMBER=VERSION... -- PRODUCED...: each order that was produced as PRODUCED was handled once, with its amount, and each member
handled something, in that version alone."""
import json, os, sys
group, *rest = sys.argv[1:]
cut = rest.index("--")
wanted_version = dict(word.split("=") for word in rest[:cut])
pence = {}
for line in open(os.environ["ORDERS"]):
    order = json.loads(line, parse_float=str)
    pence[order["orderId"]] = int(order["total"].replace(".", ""))
produced = dict(line.split() for name in rest[cut + 1:] for line in open("produced." + name))
handled, versions = {}, {}
for line in open(group + ".handled"):
    member, event, version, order, amount = line.split()
    handled.setdefault(event, []).append(order)
    versions.setdefault(member, set()).add(version)
    assert int(amount) == pence[order], (line, pence[order])
lost = set(produced) - set(handled)
assert not lost, f"{group}: lost {len(lost)} of {len(produced)}"
twice = [event for event, orders in handled.items() if len(orders) > 1]
assert not twice, f"{group}: {len(twice)} handled twice"
assert set(handled) == set(produced), f"{group}: {len(handled)} instead of {len(produced)}"
assert all(orders == [produced[event]] for event, orders in handled.items())
assert versions == {member: {version} for member, version in wanted_version.items()}, versions
END

handled_all() { python3 "$scratch/check.py" "$@" >wrong 2>&1 || fail "$(tail -n 1 wrong) $(cat ./*.err)"; }

# ---- cases -----------------------------------------------------------------------------------------------------------

it_goes_from_version_1_over_both_to_version_2_and_nothing_is_lost_or_handled_twice() {
    make_bus
    member a billing v1
    member b billing v1
    member m mailer old
    member n analytics v1
    member r archive old

    produce 1 0 100 # version 1 alone
    has_done_all analytics
    leaves n
    produce 1 100 150 # while it is away
    member n-2 analytics upcast
    produce 1 150 200

    produce both 200 300 # both: the consumers are switched
    is_switched a b billing v2 both 300 400
    is_switched b a-v2 billing v2 both 400 500
    leaves m
    produce both 500 550
    member m-2 mailer v2
    produce both 550 600
    for group in billing mailer analytics archive; do
        has_done_all "$group"
    done

    produce 2 600 830 # version 2 alone
    for group in billing mailer analytics archive; do
        has_done_all "$group"
        group_says "$group" 'g["redelivered"] == 0' || fail "$group: something came again"
    done
    handled_all billing a=1.0 b=1.0 a-v2=2.0 b-v2=2.0 -- 1 both 2
    handled_all mailer m=1.0 m-2=2.0 -- 1 both 2
    handled_all analytics n=1.0 n-2=2.0 -- 1 both 2
    handled_all archive r=1.0 -- 1 both # it was left behind
    for group in billing mailer analytics; do
        group_says "$group" 'g["deadLetters"] == 0' || fail "$group has dead letters"
    done
}

it_gives_who_is_left_behind_a_dead_letter_for_each_and_a_replay_when_it_is_switched() {
    make_bus
    member r archive old
    produce both 0 50
    has_done_all archive
    produce 2 50 100
    has_done_all archive
    leaves r
    handled_all archive r=1.0 -- both
    works tail lomash.dlq.archive --from earliest --timeout 0 --json
    python3 - produced.2 <<'END' || fail 'the letters are not as they should be'
import json, os, sys
produced = dict(line.split() for line in open(sys.argv[1]))
orders = {order["orderId"]: order for order in map(json.loads, open(os.environ["ORDERS"]))}
letters = [json.loads(line)["payload"] for line in open("out")]
assert {letter["event"]["eventId"]: letter["event"]["payload"]["orderId"] for letter in letters} == produced, letters
for letter in letters:
    assert (letter["cause"], letter["attempts"], letter["group"]) == ("no_version", [], "archive"), letter
    assert letter["error"] == "published as 2.0; accepted are 1", letter
    event = letter["event"]
    assert event["version"] == "2.0" and event["eventType"] == "lomash.orders.created", event
    order = dict(orders[event["payload"]["orderId"]])
    order["totalPence"] = round(order.pop("total") * 100)
    assert event["payload"] == order, event
END
    group_says archive 'g["deadLetters"] == 50 and g["redelivered"] == 0' || fail 'not 50 letters'
    member r-2 archive v2
    works dlq replay --group archive
    produce 2 100 110
    has_done_all archive
    handled_all archive r=1.0 r-2=2.0 -- both 2
}

it_switches_a_consumer_before_its_producer_where_it_upcasts() {
    make_bus
    member n analytics upcast
    produce 1 0 50
    produce both 50 100
    produce 2 100 150
    has_done_all analytics
    handled_all analytics n=2.0 -- 1 both 2
}

it_is_seen_on_the_command_line() {
    make_bus
    works group show archive
    prints 'accepts: 1'
    produce both 0 1
    works tail --from earliest --count 1 --timeout 1m --versions
    prints ' 10248 1.0 {"orderId":"10248",'
    prints ' 10248 2.0 {"orderId":"10248",'
    prints '"total":440.00}'
    prints '"totalPence":44000}'
}

it_is_quoted_word_for_word() {
    python3 - "$source_root/docs" >quotes 2>&1 <<'END' || fail "$(cat quotes)"
import pathlib, re, sys
docs = pathlib.Path(sys.argv[1])
program = (docs / "migration.c").read_text()
quotes = re.findall(r"^```c\n(.*?)^```", (docs / "migration.md").read_text(), re.DOTALL | re.MULTILINE)
assert len(quotes) >= 3, "no quotes"
for quote in quotes:
    assert quote in program, "not in the program:\n" + quote
END
}

run_cases "$@"
