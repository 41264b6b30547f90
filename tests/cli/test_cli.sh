#!/usr/bin/env bash
# The command line, as it is typed: every bad input with its message and exit code, every command on its good day.
#
#   EVBUS=build/tools/evbus tests/cli/test_cli.sh [CASE...]
#
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

# Rings of 4 KiB are full after 64 cells. One partition, so that the order of a tail is the order of publishing.
catalogue='{ "namespace": "lomash", "tests": true, "defaults": { "partitions": 1, "ring": "4KiB" },
  "topics": { "lomash.orders.created":         { "producers": ["shop", "office"], "groups": ["mailer", "analytics"] },
              "lomash.orders.cancelled":       { "producers": ["shop"], "groups": ["mailer"] },
              "lomash.content.blog.published": { "producers": ["editor"], "groups": [] } },
  "logs": { "lomash.content": { "ring": "1MiB", "partitions": 2 } } }'

commands='init rm ls pub tail consume group dlq stat catalogue convert find why doctor inspect journal backup bridge'

# Nobody is there who would read for the groups: without them a log is released when it fills.
forget_groups() {
    works group rm mailer --yes
    works group rm analytics --yes
}

# ---- help, commands, options -----------------------------------------------------------------------------------------

it_prints_help_for_itself_and_for_every_command() {
    works --help
    is_silent
    for command in $commands; do
        works --help
        prints "  $command "
        works "$command" --help
        is_silent
        prints "usage:"
        prints "evbus $command"
        prints "examples:"
        prints "--bus NAME"
    done
    works -h pub
    prints "--key-field NAME"
}

it_has_every_option_of_its_help_in_the_man_page() {
    local page=$source_root/tools/man/evbus.1.scd
    for command in $commands; do
        works "$command" --help
        for option in $(grep -oE '^  .{0,4}--[a-z-]+' out | grep -oE -e '--[a-z-]+'); do
            if ! grep -qF -e "*$option*" "$page"; then fail "$option of evbus $command is not in evbus.1"; fi
        done
    done
}

it_hands_its_arguments_on_to_the_demonstration() {
    works --help demo
    prints 'usage:'
    prints 'evbus demo'
    mkdir bin
    printf '#!/bin/sh\nprintf "%%s\\n" "$EVBUS_BUS $EVBUS_SERVICE" "$@"\n' >bin/evbus-demo
    chmod +x bin/evbus-demo
    cp "$EVBUS" bin/evbus # it looks beside itself first
    ln -s "$(dirname "$EVBUS")/../shm" shm # where a build tree has the library
    EVBUS=$PWD/bin/evbus works -b other --as shop demo --count 3 -- x '-y z'
    prints_just $'other shop\n--count\n3\n--\nx\n-y z'
    mkdir bin/demo
    mv bin/evbus-demo bin/demo/
    EVBUS=$PWD/bin/evbus works demo --help
    prints '--help'
    mv bin/demo/evbus-demo .
    PATH=$PWD:$PATH EVBUS=$PWD/bin/evbus works demo last
    prints 'last'
    rm evbus-demo
    PATH=/usr/bin:/bin EVBUS=$PWD/bin/evbus refused 1 'evbus-demo is neither beside this program nor in PATH' demo
}

it_prints_its_version() {
    works --version
    if ! grep -qE '^evbus [0-9]+\.[0-9]+\.[0-9]+$' out; then fail "no version"; fi
}

it_wants_a_command() {
    refused 2 'which command? evbus --help lists them'
    refused 2 'which command?' --json
}

it_names_an_unknown_command_and_suggests_the_near_one() {
    refused 2 'unknown command "stats"; did you mean stat?' stats
    refused 2 'unknown command "publish"; evbus --help lists them' publish
    refused 2 'unknown command "tial"; did you mean tail?' tial
    refused 2 'unknown command "catalog"; did you mean catalogue?' catalog
    refused 2 'unknown command ""' ''
    refused 2 'unknown command "catalogue shwo"; did you mean catalogue show?' catalogue shwo
    refused 2 'unknown command "catalogue x"; there are check, show, apply and export' catalogue x
}

it_names_an_unknown_option_and_suggests_the_near_one() {
    refused 2 'unknown option --timeut; did you mean --timeout?' tail --timeut 5s
    refused 2 'unknown option --key-feild; did you mean --key-field?' pub lomash.orders.created --stdin --key-feild=id
    refused 2 'unknown option --jsn; did you mean --json?' --jsn ls
    refused 2 'unknown option --frobnicate; --help lists the options' stat --frobnicate
    refused 2 'unknown option -x' stat -x
    refused 2 "unknown option --count; a command's options stand behind its name" --count 3 tail
    refused 2 'unknown option --count' stat --count 3
}

it_says_what_value_an_option_wants() {
    while IFS='|' read -r command option value expected; do
        refused 2 "$option \"$value\": expected $expected" "$command" "$option" "$value"
    done <<'ROWS'
pub|--timeout|5|a duration
pub|--timeout|5x|a duration
pub|--timeout|s|a duration
pub|--timeout|-5s|a duration
pub|--timeout|5 s|a duration
pub|--timeout|1.5s|a duration
pub|--timeout||a duration
pub|--timeout|99999999999999999999s|a duration
pub|--timeout|9999999999999h|a duration
tail|--count|ten|a whole number
tail|--count|-1|a whole number
tail|--count|18446744073709551615|a whole number
tail|--count|18446744073709551616|a whole number
tail|--from|yesterday|earliest, latest, @POSITION or a time
tail|--from|2026-02-30T00:00:00Z|earliest, latest, @POSITION or a time
pub|--time|2026-02-01|a time as in RFC 3339
pub|--time|2026-02-01T09:30:00|a time as in RFC 3339
pub|--time|2026-02-01T24:30:00Z|a time as in RFC 3339
pub|--time|2026-13-01T09:30:00Z|a time as in RFC 3339
pub|--time|2026-02-01T09:30:00.Z|a time as in RFC 3339
pub|--time|2026-02-01T09:30:00+25:00|a time as in RFC 3339
pub|--time|1969-12-31T23:59:59Z|a time as in RFC 3339
pub|--time|1969-12-31T23:30:00-01:00|a time as in RFC 3339
pub|--time|2553-12-31T23:59:59-23:59|a time as in RFC 3339
pub|--time|2026-02-31T99:99:60Z|a time as in RFC 3339
pub|--time|2026-02-01T09:30:60Z|a time as in RFC 3339
pub|--time|2999-01-01T00:00:00Z|a time as in RFC 3339
pub|--id|0198c6f2|a UUID
pub|--id|0198c6f2-7d1e-7a44-9b5f-3e6a0c1d2b4g|a UUID
pub|--id|00000000-0000-0000-0000-000000000000|a UUID
pub|--version|0.9|MAJOR.MINOR
pub|--version|01.0|MAJOR.MINOR
pub|--version|1.00|MAJOR.MINOR
pub|--version|2.|MAJOR.MINOR
pub|--version|65536.0|MAJOR.MINOR
pub|--version|two|MAJOR.MINOR
init|--mode|0999|permissions in octal
init|--mode|rw|permissions in octal
init|--mode|000|permissions in octal
init|--mode|01777|permissions in octal
ROWS
}

it_says_what_is_missing_or_too_much() {
    refused 2 '--bus needs a value: --bus NAME' stat --bus
    refused 2 '--json takes no value, but got "yes"' stat --json=yes
    refused 2 'which TOPIC?' pub
    refused 2 'PAYLOAD is missing' pub lomash.orders.created
    refused 2 '"{}" is one too many' pub lomash.orders.created --stdin '{}'
    refused 2 '"more" is one too many' pub lomash.orders.created '{}' more
    refused 2 '--key and --key-field: give one of them' pub lomash.orders.created '{}' --key a --key-field b
    refused 2 '--id names one event' pub lomash.orders.created --stdin --id "$ID"
    refused 2 '--key: 256 bytes; at most 255 are allowed' pub lomash.orders.created '{}' --key "$(printf '%256s' x)"
    refused 2 '"lomash" is one too many' rm lomash
    refused 2 '"x" is one too many' ls x
    refused 2 'something is missing; usage: evbus catalogue check FILE' catalogue
    refused 2 'which FILE?' catalogue check
}

it_takes_options_in_every_place_and_form() {
    make_bus
    local bus=$EVBUS_BUS
    unset EVBUS_BUS
    for form in "-b $bus stat --json" "stat -b $bus --json" "--json --bus=$bus stat" "stat --json -b$bus"; do
        # shellcheck disable=SC2086
        works $form
        prints "{\"bus\":\"$bus\","
    done
    export EVBUS_BUS=$bus
    pub lomash.orders.created -- -5
    pub lomash.orders.created -6
    pub --key k -- lomash.orders.created '"--json"'
    works tail --from earliest --count 3
    prints ' -5'
    prints ' -6'
    prints ' k "--json"'
}

# ---- no bus, init, ls, rm --------------------------------------------------------------------------------------------

it_says_when_there_is_no_such_bus() {
    refused 69 "$EVBUS_BUS" stat
    says " init\` makes it"
    refused 69 "$EVBUS_BUS" tail
    refused 69 "$EVBUS_BUS" doctor
    refused 69 "$EVBUS_BUS" rm
    refused 69 "$EVBUS_BUS" catalogue show
    refused 69 "$EVBUS_BUS" pub lomash.orders.created '{}' --as shop
    refused 69 "$EVBUS_BUS" pub lomash.orders.created --stdin --as shop
}

it_refuses_a_bus_name_that_cannot_be_one() {
    refused 2 'a/b' init -b a/b
    refused 2 '../x' stat -b ../x
}

it_makes_a_bus_of_the_shipped_catalogue() {
    works init
    is_silent
    if ! grep -qE "^made bus $EVBUS_BUS: 17 topics, [0-9]+ logs, [0-9.]+ MiB$" out; then fail "another line"; fi
    works catalogue show --names
    if ! n_lines out 17; then fail "not 17 topics"; fi
    works catalogue show
    prints 'lomash.analytics.event.tracked'
    prints '(internal)'
}

it_makes_a_bus_of_a_file_and_of_standard_input() {
    printf '%s\n' "$catalogue" >small.json
    works init --catalogue small.json --json
    is_silent
    prints "{\"bus\":\"$EVBUS_BUS\",\"topics\":3,\"logs\":2,\"bytes\":"
    works rm
    prints_just "removed bus $EVBUS_BUS"
    run init --catalogue - <small.json
    exits 0
    prints "made bus $EVBUS_BUS: 3 topics, 2 logs, "
}

it_makes_a_bus_with_the_permissions_asked_for() {
    printf '%s' "$catalogue" >small.json
    works init --catalogue small.json --mode 0640 --group "$(id -gn)"
    local mode
    for object in /dev/shm/evbus."$EVBUS_BUS".*; do
        mode=$(stat -c %a "$object")
        if [ "$mode" != 640 ]; then fail "$object has mode $mode"; fi
    done
    "$EVBUS" rm >/dev/null
    refused 2 'no-such-group' init --catalogue small.json --group no-such-group
}

it_makes_no_bus_twice() {
    make_bus
    pub lomash.orders.created '"still here"'
    refused 73 "$EVBUS_BUS" init
    works tail --from earliest --count 1
    prints '"still here"'
}

it_lists_the_buses() {
    make_bus
    works ls
    prints "$EVBUS_BUS "
    works ls --names
    prints "$EVBUS_BUS"
    works ls --json
    python3 -c 'import json, sys, os
for line in open("out"):
    bus = json.loads(line)
    if bus["bus"] == os.environ["EVBUS_BUS"]:
        sys.exit(0 if bus["state"] == "ok" and bus["bytes"] > 0 and bus["created"].endswith("Z") else 1)
sys.exit(1)' || fail 'ls --json'
    works rm --json
    prints_just "{\"removed\":\"$EVBUS_BUS\"}"
    works ls --names
    if has_line out "$EVBUS_BUS"; then fail 'it is still listed'; fi
}

it_tells_who_follows_a_bus_that_it_was_removed() {
    make_bus
    follow
    works rm
    ends_with "$tail" 69
    if ! grep -q '^evbus: ' tail.err; then fail 'without a word'; fi
}

# ---- catalogue -------------------------------------------------------------------------------------------------------

it_checks_a_catalogue() {
    printf '%s' "$catalogue" >small.json
    works catalogue check small.json
    is_silent
    if ! grep -qE '^small.json: ok, 3 topics, 2 logs, [0-9.]+ MiB$' out; then fail 'another line'; fi
    works catalogue check small.json --json
    prints '{"topics":3,"logs":2,"bytes":'
}

it_says_what_is_wrong_with_a_catalogue() {
    printf '{"topics": {' >cut.json
    refused 78 'cut.json: ' catalogue check cut.json
    refused 78 'cut.json: ' init --catalogue cut.json
    refused 78 '' catalogue show cut.json
    printf '{"namespace": "lomash", "topics": {"lomash.orders.created": {"producer": ["shop"]}}}' >misspelt.json
    refused 78 'producers' catalogue check misspelt.json
    printf '{"namespace": "lomash", "topics": {"orders": {}}}' >grammar.json
    refused 78 'orders' catalogue check grammar.json
    : >empty.json
    refused 78 'empty.json: ' catalogue check empty.json
    refused 74 'none.json: No such file or directory' catalogue check none.json
    refused 74 'none.json: No such file or directory' init --catalogue none.json
    refused 74 'Is a directory' catalogue check .
    head -c 2000000 /dev/zero >large.json
    refused 65 'large.json: more than 1048576 bytes' catalogue check large.json
    works ls --names
    if has_line out "$EVBUS_BUS"; then fail 'a bus was made'; fi
}

it_shows_a_catalogue() {
    printf '%s\n' "$catalogue" >small.json
    make_bus
    for where in '' small.json; do
        # shellcheck disable=SC2086
        works catalogue show $where
        if ! grep -qE '^TOPIC +PRODUCERS +CONSUMERS$' out; then fail 'no heading'; fi
        if ! grep -qE '^lomash.orders.created +shop, office +mailer, analytics$' out; then fail 'no row'; fi
        if ! grep -qE '^lomash.content.blog.published +editor +\(internal\)$' out; then fail 'no internal row'; fi
        # shellcheck disable=SC2086
        works catalogue show $where --json
        if ! cmp -s out small.json; then fail 'not the text itself'; fi
    done
    works catalogue show --names
    prints_just $'lomash.orders.created\nlomash.orders.cancelled\nlomash.content.blog.published'
}

# ---- pub -------------------------------------------------------------------------------------------------------------

it_prints_a_receipt() {
    make_bus
    pub lomash.orders.created '{"orderId":"10248"}' --id "${ID^^}"
    is_silent
    prints_just "lomash.orders/0@$(position) $ID"
    pub lomash.orders.created '{}' --json
    if ! grep -qE '^\{"eventId":"[0-9a-f-]{36}","log":"lomash.orders","partition":0,"position":"[0-9]+","ack":"memory"\}$' out
    then fail 'another receipt'; fi
}

it_lets_only_producers_publish_and_says_who_they_are() {
    make_bus
    refused 77 'shop' pub lomash.orders.created '{}' --as editor
    says 'office'
    says 'editor'
    refused 77 'shop' pub lomash.orders.created '{}'
    EVBUS_SERVICE=editor refused 77 'shop' pub lomash.orders.created '{}'
    EVBUS_SERVICE=editor works pub lomash.orders.created '{}' --as office
    EVBUS_SERVICE=office works pub lomash.orders.created '{}'
    run pub lomash.orders.created --stdin --as editor < <(printf '1\n2\n')
    exits 77
    says 'line 1: '
    says 'published 0 events in '
    if has_line err 'line 2'; then fail 'what holds for all lines was said for each'; fi
}

it_knows_no_other_topics() {
    make_bus
    refused 1 'lomash.orders.creatd' pub lomash.orders.creatd '{}' --as shop
    refused 2 'orders' pub orders '{}' --as shop
    refused 2 'Lomash.orders.created' pub Lomash.orders.created '{}' --as shop
    run pub lomash.orders.creatd --stdin --as shop < <(printf '1\n2\n')
    exits 1
    run pub orders --stdin --as shop < <(printf '1\n2\n')
    exits 2
}

it_says_where_a_payload_is_no_json() {
    make_bus
    local payload
    for payload in '{"a":1,}' '{a:1}' '01' '1 2' '"' "{'a':1}" 'nul' '[1' $'"\x01"' $'"\xff"' $'\xef\xbb\xbf1' ''; do
        refused 65 'payload' pub lomash.orders.created "$payload" --as shop
    done
    refused 65 '7' pub lomash.orders.created '{"a":1,}' --as shop
    works tail --from earliest --timeout 0
    prints_nothing
}

it_refuses_a_payload_that_is_too_large() {
    make_bus
    refused 65 'bytes' pub lomash.orders.created "\"$(printf '%5000s' x)\"" --as shop
    head -c 5000000 /dev/zero >large
    run pub lomash.orders.created - --as shop <large
    exits 65
    says 'standard input: more than 4194304 bytes'
}

it_reads_one_payload_from_standard_input() {
    make_bus
    run pub lomash.content.blog.published - --as editor --id "$ID" --time 2026-02-01T09:30:00.1239Z \
        < <(printf '{\n  "price": 19.90\r\n}\n')
    exits 0
    works tail --json --from earliest --count 1
    prints_just '{"eventId":"'"$ID"'","eventType":"lomash.content.blog.published","timestamp":"2026-02-01T09:30:00.123Z",'\
'"version":"1.0","payload":{   "price": 19.90  } }'
    run pub lomash.content.blog.published - --as editor </dev/null
    exits 65
}

it_publishes_one_event_per_line() {
    make_bus
    run pub lomash.content.blog.published --stdin --as editor --key one < <(seq 830)
    exits 0
    prints_nothing
    if ! grep -qE '^published 830 events in [0-9]+\.[0-9]{2} s, 0 refused$' err; then fail 'another summary'; fi
    works tail --from earliest --count 830
    if ! diff <(awk '{print $NF}' out) <(seq 830) >/dev/null; then fail 'other events, or in another order'; fi
    run pub lomash.content.blog.published --stdin --as editor --json < <(printf '1\n[\n2\n')
    exits 65
    if ! grep -qE '^\{"published":2,"refused":1,"seconds":[0-9.]+\}$' out; then fail 'another summary'; fi
    run pub lomash.content.blog.published --stdin --as editor </dev/null
    exits 0
    says 'published 0 events in '
}

it_names_bad_lines_by_number_and_goes_on_with_the_others() {
    make_bus
    {
        printf '"first"\n{"a":\n\n   \n"fifth, with CR LF"\r\n'
        head -c 5000000 /dev/zero | tr '\0' x
        printf '\n"seventh"\nnul\n"ninth, without an end"'
    } >lines
    run pub lomash.content.blog.published --stdin --as editor --key one <lines
    exits 65
    says 'evbus: line 2: '
    says 'evbus: line 6: longer than 4194304 bytes'
    says 'evbus: line 8: '
    says ', 3 refused'
    if ! n_lines err 4; then fail 'not these three alone'; fi
    works tail --from earliest --count 4
    if ! diff <(sed 's/^[^"]*//' out) - >/dev/null <<'LINES'
"first"
"fifth, with CR LF"
"seventh"
"ninth, without an end"
LINES
    then fail 'other events'; fi
}

it_takes_the_key_from_a_member() {
    make_bus
    printf '%s\n' '{"k":"10248"}' '{"k":10.50}' '{"k":true}' '{"k":"\u00fc \"x\""}' >good
    run pub lomash.orders.created --stdin --key-field k --as shop <good
    exits 0
    works tail --json --meta --from earliest --count 4
    python3 -c 'import json
keys = [json.loads(line)["key"] for line in open("out")]
assert keys == ["10248", "10.50", "true", "\u00fc \"x\""], keys' || fail 'other keys'

    printf '%s\n' '{"k":"a"}' '{"other":1}' '{"k":null}' '{"k":{}}' '{"k":[1]}' '[1]' '"k"' '{"k":"b"}' >mixed
    printf '{"k":"%256s"}\n' x >>mixed
    run pub lomash.orders.created --stdin --key-field k --as shop <mixed
    exits 65
    for line in 2 3 4 5 6 7 9; do says "evbus: line $line: "; done
    says 'published 2 events in '
    says ', 7 refused'
    refused 65 'k' pub lomash.orders.created '{"other":1}' --key-field k --as shop
}

it_waits_for_room_and_gives_up_in_time() {
    make_bus
    forget_groups
    "$EVBUS" tail lomash.orders.created --pin >tail.out 2>tail.err &
    tail=$!
    await stat_says 'logs["lomash.orders"]["pins"] == 1'
    kill -STOP "$tail"
    await is_stopped "$tail"
    run pub lomash.orders.created --stdin --as shop --timeout 100ms < <(seq 200)
    exits 75
    says 'evbus: line '
    local n_published
    n_published=$(sed -n 's/^published \([0-9]*\) events.*/\1/p' err)
    if ! [ "$n_published" -ge 8 ] || ! [ "$n_published" -lt 64 ]; then fail "$n_published events went in"; fi
    refused 75 'full' pub lomash.orders.created '"refused"' --as shop --timeout 0
    refused 75 'full' pub lomash.orders.created '"refused"' --as shop --timeout 700ms
    stat_says 'logs["lomash.orders"]["full"] > 0' || fail 'stat does not count them'

    "$EVBUS" pub lomash.orders.created '"waited"' --as shop --timeout 1m >pub.out 2>pub.err &
    local waiting=$!
    await stat_says 'any(t["service"] == "shop" for t in s["threads"])'
    kill -CONT "$tail"
    ends_with "$waiting" 0
    await has_line tail.out '"waited"'
    await n_lines tail.out $((n_published + 1))
    kill "$tail"
    ends_with "$tail" 0
    pub lomash.orders.created '"room again"' --timeout 0
}

it_stops_waiting_for_room_when_told_to() {
    make_bus
    forget_groups
    "$EVBUS" tail lomash.orders.created --pin >tail.out 2>tail.err &
    tail=$!
    await stat_says 'logs["lomash.orders"]["pins"] == 1'
    kill -STOP "$tail"
    await is_stopped "$tail"
    run pub lomash.orders.created --stdin --as shop --timeout 0 < <(seq 200)
    exits 75
    "$EVBUS" pub lomash.orders.created --stdin --as shop --timeout 1d >pub.out 2>pub.err < <(echo '"one"') &
    local waiting=$!
    await stat_says 'any(t["service"] == "shop" for t in s["threads"])'
    kill -TERM "$waiting"
    ends_with "$waiting" 75
    if ! has_line pub.err 'published 0 events in '; then fail "no summary: $(cat pub.err)"; fi
}

it_says_how_far_it_came_when_it_is_interrupted() {
    make_bus
    mkfifo lines
    "$EVBUS" pub lomash.orders.created --stdin --as shop >pub.out 2>pub.err <lines &
    local waiting=$!
    exec 8>lines
    printf '1\n2\n3' >&8
    await is_published ' 2$'
    kill -TERM "$waiting"
    ends_with "$waiting" 75
    exec 8>&-
    if ! has_line pub.err 'interrupted behind line 2'; then fail "$(cat pub.err)"; fi
    if ! has_line pub.err 'published 2 events in '; then fail "$(cat pub.err)"; fi
}

# ---- tail ------------------------------------------------------------------------------------------------------------

it_gives_payloads_back_byte_for_byte() {
    make_bus
    local payload expected
    local head='{"eventId":"'$ID'","eventType":"lomash.content.blog.published","timestamp":"2026-02-01T08:30:00.000Z",'
    head+='"version":"2.1","payload":'
    local payloads=('{"price":19.99}' '1.10' '-0.0' '1E400' '100000000000000000000001' 'null' '""' '{"a":1,"a":2}'
        '  {  "a" :	[ ] }  ' '"Grüße, 世界 🎉"' '"\u00fc\/\ud83c"' '"a\nb\u0000c"' '[[[[]]]]' $'"\x7f"')
    for payload in "${payloads[@]}"; do
        works pub lomash.content.blog.published "$payload" --as editor --key one --id "$ID" \
            --time 2026-02-01T09:30:00+01:00 --version 2.1
        printf '%s%s}\n' "$head" "$payload" >>expected
    done
    works tail --json --from earliest --count "${#payloads[@]}"
    is_silent
    if ! cmp out expected; then
        diff out expected
        fail 'other bytes'
    fi
}

it_keeps_an_event_on_one_line() {
    make_bus
    works pub lomash.content.blog.published $'{"a":\n1,\r\n"b":"\\n"}' --as editor
    works tail --json --from earliest --count 1
    prints '"payload":{"a": 1,  "b":"\n"}}'
    if ! n_lines out 1; then fail 'several lines'; fi
    works tail --from earliest --count 1
    prints ' {"a": 1,  "b":"\n"}'
    if ! n_lines out 1; then fail 'several lines'; fi
}

it_prints_time_topic_key_and_payload() {
    make_bus
    pub lomash.orders.created '{"orderId":"10248"}' --key 10248 --time 2026-02-01T09:30:00.123456Z --id "$ID"
    local position
    position=$(position)
    pub lomash.orders.cancelled 'null' --time 2026-02-01T09:30:01Z --id "$ID"
    pub lomash.orders.created '0' --time 2026-02-01T09:30:02Z --id "$ID" --key $'\e[2J\n\u9b'
    works tail --from earliest --count 3
    prints_just '2026-02-01T09:30:00.123Z lomash.orders.created 10248 {"orderId":"10248"}
2026-02-01T09:30:01.000Z lomash.orders.cancelled - null
2026-02-01T09:30:02.000Z lomash.orders.created \x1b[2J\x0a\x9b 0'
    works tail --from earliest --count 1 --meta
    prints_just "lomash.orders/0@$position $ID shop 1.0 2026-02-01T09:30:00.123Z lomash.orders.created 10248 {\"orderId\":\"10248\"}"
    works --meta tail --json --from earliest --count 1
    prints_just '{"envelope":{"eventId":"'"$ID"'","eventType":"lomash.orders.created","timestamp":"2026-02-01T09:30:00.123Z",'\
'"version":"1.0","payload":{"orderId":"10248"}},"key":"10248","log":"lomash.orders","partition":0,"position":"'"$position"'",'\
'"service":"shop","lost":0}'
}

it_follows_what_fits_a_pattern() {
    make_bus
    pub lomash.orders.created '1'
    pub lomash.orders.cancelled '2'
    works pub lomash.content.blog.published '3' --as editor
    works tail --from earliest --timeout 0 'lomash.orders.*'
    if ! n_lines out 2; then fail 'not both'; fi
    works tail --from earliest --timeout 0 'lomash.content.**' lomash.orders.cancelled
    if ! n_lines out 2; then fail 'not both'; fi
    works tail --from earliest --timeout 0 '**'
    if ! n_lines out 3; then fail 'not all'; fi
    refused 2 'lomash.**.x' tail 'lomash.**.x'
    refused 2 'lomash.Orders.created' tail 'lomash.Orders.created'
    refused 1 'lomash.orders.paid' tail lomash.orders.paid
}

it_exits_by_whether_the_count_was_reached() {
    make_bus
    pub lomash.orders.created '1'
    works tail --from earliest --count 1 --timeout 1m
    works tail --from earliest --count 0
    prints_nothing
    works tail --from earliest --timeout 10ms
    run tail --from earliest --count 2 --timeout 10ms
    exits 1
    is_silent
    if ! n_lines out 1; then fail 'what came was not printed'; fi
}

it_starts_where_it_is_told_to() {
    make_bus
    for hour in 08 09 10; do pub lomash.orders.created "\"$hour\"" --time "2026-02-01T$hour:00:00Z"; done
    works tail --from 2026-02-01T10:00:00+01:00 --timeout 0
    if ! n_lines out 2; then fail 'not the last two'; fi
    works tail --from 2026-02-01T10:00:00.001Z --timeout 0
    prints_nothing
    works tail --from latest --timeout 0
    prints_nothing
}

it_holds_no_line_back_and_ends_well_when_told_to() {
    make_bus
    follow --latency
    pub lomash.orders.created '"now"'
    await has_line tail.out '"now"'
    kill -TERM "$tail"
    ends_with "$tail" 0
    if ! grep -qE '^latency p50 [0-9]+\.[0-9] us p99 [0-9]+\.[0-9] us \(1 events\)$' tail.err; then
        fail "another line: $(cat tail.err)"
    fi
}

it_measures_how_old_events_were() {
    make_bus
    pub lomash.orders.created '1' --time 2500-01-01T00:00:00Z
    works tail --latency --from earliest --count 1
    says 'latency p50 0.0 us p99 0.0 us (1 events)'
    works tail --latency --timeout 0
    says 'latency: no events'
}

it_ends_quietly_when_nobody_reads_its_output() {
    make_bus
    run pub lomash.content.blog.published --stdin --as editor < <(seq 3000)
    exits 0
    "$EVBUS" tail --from earliest 2>err | head -n 1 >out
    local codes=("${PIPESTATUS[@]}")
    code=${codes[0]} last='evbus tail | head'
    exits 0
    is_silent
    "$EVBUS" tail --from latest 2>err | true # it never writes, and yet notices
    codes=("${PIPESTATUS[@]}")
    code=${codes[0]} last='evbus tail | true'
    exits 0
    is_silent
}

it_says_when_its_output_cannot_be_written() {
    make_bus
    last='evbus stat >/dev/full'
    "$EVBUS" stat >/dev/full 2>err
    code=$?
    exits 74
    says 'standard output: No space left on device'
}

it_never_writes_to_what_took_the_place_of_a_closed_output() {
    make_bus
    pub lomash.orders.created '"whole"'
    last='evbus with 0, 1, 2 closed'
    "$EVBUS" stat <&- >&- 2>&-
    code=$?
    exits 0
    "$EVBUS" tail --from earliest --count 1 >&- 2>&-
    code=$?
    exits 0
    works doctor
    works tail --from earliest --count 1
    prints '"whole"'
}

it_says_how_much_it_lost_when_it_is_overtaken() {
    make_bus
    forget_groups
    follow lomash.orders.created
    kill -STOP "$tail"
    await is_stopped "$tail"
    run pub lomash.orders.created --stdin --as shop < <(seq 500)
    exits 0
    kill -CONT "$tail"
    await grep -q ' 500$' tail.out
    if ! grep -qE '^evbus: lost [0-9]+ cells of lomash.orders/0 before position [0-9]+: overwritten before they were read, retired, or damaged$' tail.err
    then fail "not said: $(cat tail.err)"; fi
    kill "$tail"
    ends_with "$tail" 0
}

# ---- stat, doctor ----------------------------------------------------------------------------------------------------

it_shows_how_the_bus_is_doing() {
    make_bus
    pub lomash.orders.created '1'
    local tail_position=$(($(position) + 2))
    works stat
    is_silent
    if ! grep -qE "^bus $EVBUS_BUS, up [0-9]+ s, [0-9.]+ MiB, 8 topics in 5 logs$" out; then fail 'another heading'; fi
    prints 'keeper nobody'
    if ! grep -qE "^lomash.orders/0 +64 +$tail_position +[0-9]+%( +0){6}\$" out; then fail 'another row'; fi
    prints 'lomash.content/1 '
    follow
    stat_says 's["topics"] == 8 and s["logs"] == 5 and s["keeper"]["pid"] > 0 and s["processes"] >= 1' || fail 'bus'
    stat_says 'logs["lomash.orders"]["tail"] == "'"$tail_position"'" and logs["lomash.orders"]["capacity"] == 64' || fail 'partition'
    stat_says 'any(t["pid"] == s["keeper"]["pid"] and t["keeper"] for t in s["threads"])' || fail 'threads'
    works stat
    prints "(pid $tail)"
    prints 'SERVICE'
}

it_watches_until_told_to_stop() {
    make_bus
    "$EVBUS" stat --watch --json >watch.out 2>watch.err &
    local watch=$!
    await n_lines watch.out 2
    kill -TERM "$watch"
    ends_with "$watch" 0
    python3 -c 'import json
for line in open("watch.out"):
    assert json.loads(line)["keeper"] is None, "who looks has become keeper"' || fail 'not what it was to see'
    "$EVBUS" stat --watch 2>err | head -n 1 >out
    local codes=("${PIPESTATUS[@]}")
    code=${codes[0]} last='evbus stat --watch | head'
    exits 0
}

it_finds_nothing_wrong_with_a_new_bus_and_something_with_a_full_one() {
    make_bus
    works doctor
    works doctor --json
    if has_line out '"problem"' || has_line out '"warning"'; then fail 'a new bus has findings'; fi
    "$EVBUS" tail lomash.orders.created --pin >tail.out 2>tail.err &
    tail=$!
    await stat_says 'logs["lomash.orders"]["pins"] == 1'
    kill -STOP "$tail"
    await is_stopped "$tail"
    run pub lomash.orders.created --stdin --as shop --timeout 0 < <(seq 200)
    exits 75
    run doctor
    exits 1
    prints 'lomash.orders'
    run doctor --json
    exits 1
    python3 -c 'import json
findings = [json.loads(line) for line in open("out")]
assert any(f["severity"] != "note" and f["what"] for f in findings), findings' || fail 'not JSON'
}

it_names_a_bus_that_cannot_be_opened_as_a_finding() {
    local control=/dev/shm/evbus.$EVBUS_BUS.control
    make_bus
    cp "$control" whole
    printf 'XXXXXXXX' | dd of="$control" bs=1 seek=8 conv=notrunc 2>/dev/null # another layout
    run doctor
    exits 69
    is_silent
    prints 'problem  bus '
    prints 'was made by another build of evbus'
    prints "mend see what stands in it: evbus -b $EVBUS_BUS inspect; then: evbus -b $EVBUS_BUS rm"
    run doctor --json
    exits 69
    python3 -c 'import json
finding, = [json.loads(line) for line in open("out")]
assert finding["severity"] == "problem" and finding["mend"], finding' || fail 'not JSON'
    printf 'XXXXXXXX' | dd of="$control" bs=1 conv=notrunc 2>/dev/null # nothing of ours
    run doctor
    exits 70
    prints 'is not a bus'
    cp whole "$control"
    printf '\1\0\0\0' | dd of="$control" bs=1 seek=132 conv=notrunc 2>/dev/null # retired, and its remover was killed
    run doctor
    exits 69
    prints "mend clear away what is left of it: evbus -b $EVBUS_BUS rm"
    cp whole "$control"
    mv "/dev/shm/evbus.$EVBUS_BUS.lomash.orders" .
    run doctor
    exits 70
    prints 'has lost its log lomash.orders'
    mv "evbus.$EVBUS_BUS.lomash.orders" /dev/shm/
    works doctor
}

# ---- completion ------------------------------------------------------------------------------------------------------

completes() { # EXPECTED WORDS...: the last word is where the cursor stands
    local expected=$1
    shift
    COMP_WORDS=("$EVBUS" "$@")
    COMP_CWORD=$#
    _evbus
    if [ "${COMPREPLY[*]}" != "$expected" ]; then fail "evbus $*<TAB> gives \"${COMPREPLY[*]}\", not \"$expected\""; fi
}

it_completes_commands_options_topics_and_buses() {
    make_bus
    # shellcheck source=/dev/null
    source "$source_root/tools/completion/evbus"
    completes 'stat' st
    completes 'init rm ls pub tail consume group dlq stat catalogue convert find why doctor inspect journal backup bridge verify demo' ''
    completes '--timeout' tail --tim
    completes '--key --key-field' pub lomash.orders.created --ke
    completes '--watch' -b x stat --w
    completes '--prometheus' stat --p
    completes '--json' --js
    completes 'earliest' tail --from e
    completes 'cloudevents' convert --to ''
    completes 'check show apply export' catalogue ''
    completes 'ls verify export' journal ''
    completes 'status pause resume' bridge ''
    completes '--dir' journal verify --d
    completes 'ls show add rm seek' group ''
    completes 'analytics mailer' group show ''
    completes 'mailer' group rm m
    completes '' group add m
    completes 'lomash.content.blog.published' group add new lomash.con
    completes 'mailer' consume m
    completes 'lomash.orders.created lomash.orders.cancelled' consume mailer lomash.o
    completes 'earliest latest' consume mailer --from ''
    completes '--exec --ephemeral' consume --e
    completes 'lomash.orders.created lomash.orders.cancelled' pub lomash.orders.c
    completes 'lomash.content.blog.published' tail lomash.orders.created lomash.con
    mkdir saved
    completes 'saved' inspect sav
    completes 'saved' backup sav
    completes 'mailer' inspect --group m
    completes 'lomash.orders' inspect --log lomash.o
    completes '--partition' inspect --pa
    completes "$EVBUS_BUS" --bus "$EVBUS_BUS"
    local bus=$EVBUS_BUS
    EVBUS_BUS=none completes 'lomash.orders.created' -b "$bus" pub --as shop lomash.orders.cr
    EVBUS_BUS=none completes '' pub lomash
}

run_cases "$@"
