#!/usr/bin/env bash
# The command line and consumer groups, as it is typed: consume, group, catalogue apply.
#
#   EVBUS=build/tools/evbus tests/cli/test_groups.sh [CASE...]
#
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

# Orders have one partition, so that what a group receives is in the order of publishing; waits are short.
catalogue='{ "namespace": "lomash", "tests": true,
  "defaults": { "partitions": 1, "ring": "64KiB", "retry": ["10ms", "20ms"] },
  "topics": { "lomash.orders.created":         { "producers": ["shop"], "groups": ["mailer", "analytics"] },
              "lomash.orders.cancelled":       { "producers": ["shop"], "groups": ["mailer"] },
              "lomash.content.blog.published": { "producers": ["shop"], "groups": ["readers"] } },
  "logs": { "lomash.content": { "partitions": 4 } } }'

# ---- helpers ---------------------------------------------------------------------------------------------------------

group_says() { # GROUP PYTHON EXPRESSION over g, its object, e.g. 'g["lag"] == 0'
    "$EVBUS" group show "$1" --json 2>/dev/null | python3 -c 'import json, sys
text = sys.stdin.read()
g = json.loads(text) if text else sys.exit(1) # no such group, yet
sys.exit(0 if eval(sys.argv[1]) else 1)' "$2"
}

holds() { # GROUP EXPRESSION
    if ! group_says "$@"; then fail "of group $1 this does not hold: $2; it is $("$EVBUS" group show "$1" --json)"; fi
}

has_group() { "$EVBUS" group ls --names 2>/dev/null | grep -qx -e "$1"; }
has_no_group() { ! has_group "$1"; }

letters_say() { # GROUP PYTHON EXPRESSION over letters, the payloads of its dead letters
    works tail "lomash.dlq.$1" --from earliest --timeout 0 --json
    python3 -c 'import json, sys
letters = [json.loads(line)["payload"] for line in open("out")]
assert eval("(" + sys.argv[1] + ")"), letters' "$2" || fail "dead letters: not $2"
}

consume() { # NAME ARGS...: a member in the background that has joined; its pid in $member, its output in NAME.out and NAME.err
    local name=$1 group=$2
    shift
    "$EVBUS" consume "$@" >"$name.out" 2>"$name.err" &
    member=$!
    await group_says "$group" "any(m['pid'] == $member for m in g['members'])"
}

# A command that says who it is and waits until it is told on.
waits='echo $$ $EVBUS_ATTEMPT >>started; read line <go; echo "$line" >>went'

# ---- consume ---------------------------------------------------------------------------------------------------------

it_prints_each_event_once_and_acknowledges_it() {
    make_bus
    pub lomash.orders.created '1' --key a
    pub lomash.orders.cancelled '2' --key a
    pub lomash.orders.created '3'
    works consume mailer --count 2
    is_silent
    if ! grep -qE '^[0-9-]{10}T[0-9:.]{12}Z lomash.orders.cancelled a 2$' out; then fail 'another line'; fi
    works consume mailer --count 1 --timeout 1m
    if ! grep -qE ' lomash.orders.created - 3$' out; then fail 'not the third'; fi
    works consume mailer --timeout 0
    prints_nothing
    holds mailer 'g["done"] == 3 and g["lag"] == 0 and g["pending"] == 0 and g["redelivered"] == 0 and not g["members"]'
    works consume analytics --timeout 0
    if ! n_lines out 2; then fail 'the other group has its own'; fi
}

it_prints_envelopes() {
    make_bus
    pub lomash.orders.created '{"price": 19.90}' --key 10248 --id "$ID" --time 2026-02-01T09:30:00Z
    local envelope='{"eventId":"'$ID'","eventType":"lomash.orders.created","timestamp":"2026-02-01T09:30:00.000Z",'
    envelope+='"version":"1.0","payload":{"price": 19.90}}'
    local place
    place=$(position)
    works consume mailer --count 1 --json
    prints_just "$envelope"
    works consume analytics --count 1 --json --meta
    prints "{\"envelope\":$envelope,\"key\":\"10248\",\"log\":\"lomash.orders\",\"partition\":0,\"position\":\"$place\",\"service\":"
    prints ',"attempt":1}'
    works group add late lomash.orders.created --from earliest
    works consume late --count 1 --meta
    prints "lomash.orders/0@$place $ID "
    prints ' 1.0 attempt 1 2026-02-01T09:30:00.000Z lomash.orders.created 10248 {"price": 19.90}'
}

it_exits_by_whether_the_count_was_reached() {
    make_bus
    works consume mailer --count 0
    works consume mailer --timeout 10ms
    works consume mailer --timeout 0
    run consume mailer --count 1 --timeout 10ms
    exits 1
    is_silent
    pub lomash.orders.created '1'
    run consume mailer --count 2 --timeout 200ms
    exits 1
    if ! n_lines out 1; then fail 'what came was not printed'; fi
    run consume mailer --count 1 --timeout 0
    exits 1
}

it_wakes_up_for_an_event() {
    make_bus
    consume one mailer --count 1
    pub lomash.orders.created '"now"'
    ends_with "$member" 0
    if ! has_line one.out '"now"'; then fail 'not printed'; fi
}

it_says_what_is_wrong_with_the_command_line_of_consume() {
    make_bus
    refused 2 'which GROUP?' consume
    refused 2 '--from is for a group that is made here' consume mailer --from earliest
    refused 2 '--ephemeral is for a group that is made here' consume mailer --ephemeral
    refused 2 '--exec: which command?' consume mailer --exec ' '
    refused 2 '--exec needs a value: --exec CMD' consume mailer --exec
    refused 2 '--count "x": expected a whole number' consume mailer --count x
    refused 2 '--timeout "5": expected a duration' consume mailer --timeout 5
    refused 2 '--from "now": expected earliest, latest, @POSITION or a time' consume new lomash.orders.created --from now
    refused 2 'unknown option --exce; did you mean --exec?' consume mailer --exce true
    refused 2 'group "Mailer"' consume Mailer
    refused 2 'group "a b"' consume 'a b' lomash.orders.created
    refused 2 'group "' consume "$(printf 'x%.0s' $(seq 64))"
    refused 2 'lomash.**.x' consume new 'lomash.**.x'
    refused 1 'there is no group nobody' consume nobody
    refused 1 'lomash.orders.paid' consume new lomash.orders.paid
    EVBUS_BUS=none refused 69 'none' consume mailer
    if has_group new; then fail 'a group was made'; fi
}

it_names_the_topics_that_patterns_leave_out() {
    make_bus
    refused 2 'lomash.orders.cancelled' consume mailer lomash.orders.created
    says 'belongs to the group'
    refused 2 'receives none of these topics' consume mailer 'lomash.content.**'
    pub lomash.orders.created '1'
    works consume mailer 'lomash.orders.*' --count 1
    works consume analytics lomash.orders.created --count 1
}

it_gives_back_what_it_could_not_write() {
    make_bus
    pub lomash.orders.created '"kept"'
    last='evbus consume >/dev/full'
    "$EVBUS" consume mailer --count 1 >/dev/full 2>err
    code=$?
    exits 74
    says 'standard output: No space left on device'
    mkfifo pipe
    exec 8<>pipe 9>pipe
    exec 8>&- # nobody reads the pipe any more
    last='evbus consume into a closed pipe'
    "$EVBUS" consume mailer --count 1 >&9 2>err
    code=$?
    exec 9>&-
    exits 0
    is_silent
    holds mailer 'g["done"] == 0 and g["pending"] == 1'
    works consume mailer --count 1 --json --meta
    prints '"payload":"kept"'
    prints '"attempt":1}'
    "$EVBUS" consume mailer 2>err | true # it never writes, and yet notices
    local codes=("${PIPESTATUS[@]}")
    code=${codes[0]} last='evbus consume | true'
    exits 0
}

it_gives_back_what_waits_for_a_reader_when_it_must_leave_at_once() {
    make_bus
    mkfifo pipe
    exec 8<>pipe # a reader that does not read
    head -c 65536 /dev/zero >&8
    pub lomash.orders.created '"kept"'
    "$EVBUS" consume mailer >&8 2>err &
    local stuck=$!
    await group_says mailer 'g["running"] == 1'
    kill -TERM "$stuck"
    if is_over "$stuck"; then fail 'the first signal did not let it finish'; fi
    await try_to_end "$stuck"
    ends_with "$stuck" 75
    works consume mailer --count 1 --json --meta
    prints '"attempt":1}'
}

try_to_end() { # PID: asks again
    kill -TERM "$1" 2>/dev/null
    is_over "$1"
}

# ---- consume --exec --------------------------------------------------------------------------------------------------

it_hands_the_event_to_a_command() {
    make_bus
    pub lomash.orders.created '{"a": "ü"}' --key 'k 1' --id "$ID" --time 2026-02-01T09:30:00Z
    # shellcheck disable=SC2016
    EVBUS_KEY=stale works consume mailer --count 1 --exec 'cat; printf "%s|" "$EVBUS_TOPIC" "$EVBUS_EVENT_ID" "$EVBUS_KEY" "$EVBUS_ATTEMPT"'
    is_silent
    prints_just '{"eventId":"'"$ID"'","eventType":"lomash.orders.created","timestamp":"2026-02-01T09:30:00.000Z","version":"1.0","payload":{"a": "ü"}}
lomash.orders.created|'"$ID"'|k 1|1|'
    holds mailer 'g["done"] == 1 and g["pending"] == 0'
}

it_hands_over_what_no_pipe_could_hold_and_does_not_care_who_reads_it() {
    printf '%s' "$catalogue" | sed 's/64KiB/1MiB/' >large.json
    works init --catalogue large.json
    printf '"%200000s"' x >large
    for _ in 1 2; do
        run pub lomash.orders.created - --as shop <large
        exits 0
    done
    works consume mailer --count 1 --exec 'wc -c'
    if ! [ "$(cat out)" -gt 200000 ]; then fail 'not all of it'; fi
    works consume mailer --count 1 --exec true
    holds mailer 'g["done"] == 2'
}

it_does_not_wait_for_what_a_command_leaves_behind() {
    make_bus
    mkfifo go
    pub lomash.orders.created 1
    works consume mailer --count 1 --exec 'cat go & exit 0'
    holds mailer 'g["done"] == 1'
    : >go
}

it_judges_by_the_exit_code() {
    make_bus
    local text position=0 n_letters=0
    while IFS='|' read -r command attempts cause text; do
        position=$((position + 1))
        pub lomash.orders.created "$position"
        if [ "$attempts" = released ]; then
            works consume analytics --count 1 --exec "$command"
            holds analytics 'g["waiting"] == 1 and g["attempts"] == 0'
            works consume analytics --count 1 --meta
            prints ' attempt 1 '
            continue
        fi
        works consume analytics --count "$attempts" --exec "$command"
        if [ "$cause" = done ]; then
            letters_say analytics "len(letters) == $n_letters"
            continue
        fi
        n_letters=$((n_letters + 1))
        letters_say analytics "len(letters) == $n_letters and letters[-1]['cause'] == '$cause' and
            letters[-1]['event']['payload'] == $position and letters[-1]['topic'] == 'lomash.orders.created' and
            len(letters[-1]['attempts']) == $attempts and letters[-1]['attempts'][-1]['error'] == '$text'"
    done <<'ROWS'
exit 0|1|done|
exit 65|1|rejected|exit 65
echo no such order >&2; exit 65|1|rejected|no such order
exit 69|released||
echo 1ms >&2; exit 79|released||
echo soon >&2; exit 79|released||
exit 75|3|failed|exit 75
echo why >&2; exit 75|3|failed|why
exit 1|3|failed|exit 1
exit 127|3|failed|exit 127
no-such-program-at-all 2>/dev/null|3|failed|exit 127
kill -KILL $$|3|failed|killed by signal 9 (Killed)
kill -TERM $$|3|failed|killed by signal 15 (Terminated)
ROWS
    holds analytics 'g["deadLetters"] == 9 and g["pending"] == 0 and g["lag"] == 0'
}

it_puts_an_event_off_for_as_long_as_its_command_says() {
    make_bus
    pub lomash.orders.created 1 --key a
    pub lomash.orders.created 2 --key b
    works consume analytics --count 1 --exec 'echo waits for its order >&2; echo 1h >&2; exit 79'
    works consume analytics --count 1
    prints '2'
    run consume analytics --count 1 --timeout 1500ms
    exits 1
    holds analytics 'g["waiting"] == 1 and g["attempts"] == 0 and g["deadLetters"] == 0'
}

it_keeps_the_last_line_of_standard_error_as_the_reason() {
    make_bus
    local command reason n=0
    while IFS='|' read -r command reason; do
        n=$((n + 1))
        pub lomash.orders.created "$n"
        works consume analytics --count 1 --exec "$command; exit 65"
        letters_say analytics "letters[-1]['attempts'][0]['error'] == $reason"
    done <<'ROWS'
echo first >&2; echo last >&2|'last'
echo last >&2; printf "\n \r\n" >&2|'last'
printf "no end" >&2|'no end'
printf "a\t\"b\"\\\\c\n" >&2|'a\t"b"\\c'
printf "\377x\303\n" >&2|'?x?'
printf "%600s" x >&2|'exit 65'
printf "x%600s" x >&2|'x' + ' ' * 511
printf "%0511dü" 0 >&2|'0' * 511
echo out|'exit 65'
ROWS
    run consume mailer --count 1 --exec 'echo passed on >&2; printf "as it comes" >&2'
    exits 0
    if [ "$(cat err)" != $'passed on\nas it comes' ]; then fail 'standard error is not passed on'; fi
}

it_tries_again_and_counts() {
    make_bus
    pub lomash.orders.created '1' --key a
    # shellcheck disable=SC2016
    works consume mailer --count 3 --exec 'echo "$EVBUS_ATTEMPT"; test "$EVBUS_ATTEMPT" = 3'
    prints_just $'1\n2\n3'
    holds mailer 'g["done"] == 1 and g["redelivered"] == 2 and g["deadLetters"] == 0'
    works stat
    if ! grep -qE '^mailer +catalogue +0 +[0-9]+ s +[0-9]+ +0 +0 +0 +0 +0 +0 +- +1 +2 +0 +0$' out; then fail 'no such row'; fi
}

it_holds_an_events_key_while_it_waits() {
    make_bus
    pub lomash.orders.created '"a1"' --key a
    pub lomash.orders.created '"b1"' --key b
    pub lomash.orders.created '"a2"' --key a
    # shellcheck disable=SC2016
    works consume mailer --count 5 --exec 'read -r line; echo "$line" | sed "s/.*payload...\(..\).*/\1/"; case $line-$EVBUS_ATTEMPT in *\"a1\"*-[12]) exit 1 ;; esac'
    if [ "$(grep a out | tr '\n' ' ')" != 'a1 a1 a1 a2 ' ]; then fail 'a later event of its key went ahead'; fi
    if [ "$(grep -n b1 out)" != 2:b1 ]; then fail 'another key waited'; fi
}

# ---- signals, deaths, sharing ----------------------------------------------------------------------------------------

it_finishes_the_running_event_when_told_to_stop() {
    make_bus
    mkfifo go
    pub lomash.orders.created 1
    pub lomash.orders.created 2
    consume one mailer --exec "$waits"
    await has_line started ' 1'
    kill -TERM "$member"
    holds mailer 'g["running"] == 1'
    echo done >go
    ends_with "$member" 0
    if ! n_lines went 1; then fail 'not just the running event'; fi
    holds mailer 'g["done"] == 1 and g["pending"] == 0 and not g["members"]'
}

it_leaves_at_once_when_told_to_stop_twice() {
    make_bus
    mkfifo go
    pub lomash.orders.created 1
    consume one mailer --exec "$waits"
    await has_line started ' 1'
    kill -TERM "$member"
    await try_to_end "$member"
    ends_with "$member" 75
    await is_over "$(cut -d' ' -f1 started)"
    holds mailer 'g["done"] == 0 and g["waiting"] == 1 and g["attempts"] == 0 and not g["members"]'
    works consume mailer --count 1 --meta
    prints ' attempt 1 '
}

it_ends_well_when_it_is_told_to_stop_while_nothing_comes() {
    make_bus
    for signal in TERM INT; do
        python3 -c 'import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL) # the shell ignores it for what runs in the background
os.execv(sys.argv[1], sys.argv[1:])' "$EVBUS" consume mailer >one.out 2>one.err &
        member=$!
        await group_says mailer 'len(g["members"]) == 1'
        kill "-$signal" "$member"
        ends_with "$member" 0
        holds mailer 'not g["members"]'
    done
}

it_gives_the_event_back_when_its_command_takes_too_long_to_stop() {
    make_bus
    mkfifo go
    pub lomash.orders.created 1
    consume one mailer --exec "$waits" --stop-timeout 200ms
    await has_line started ' 1'
    local command
    command=$(cut -d' ' -f1 started)
    kill -TERM "$member"
    ends_with "$member" 75
    await is_over "$command"
    works consume mailer --count 1 --meta --timeout 1m
    prints ' attempt 1 '
    holds mailer 'g["done"] == 1 and g["redelivered"] == 0'
}

it_tells_of_a_pause_and_when_it_is_over() {
    change 's/"logs":/"groups": { "mailer": { "retry": ["1m"] } }, "logs":/'
    works init --catalogue changed.json
    local i
    for i in 1 2 3 4 5 6; do pub lomash.orders.created "$i" --key "$i"; done
    works consume mailer --count 5 --exec 'echo "no database: $$" >&2; exit 75'
    holds mailer '(g["paused"]["events"] == 5 and g["paused"]["error"].startswith("no database: ") and
        g["causes"]["failed"] == 4 and g["attempts"] == 1)'
    works group show mailer
    prints '5 events failed the same way: "no database: '
    works stat
    prints 'paused since 20'
    run doctor
    prints 'group mailer pauses since '
    works consume mailer --count 6
    holds mailer 'g["paused"] is None and g["done"] == 6 and g["deadLetters"] == 0'
}

it_gives_the_event_of_a_killed_consumer_to_another() {
    make_bus
    mkfifo go
    pub lomash.orders.created 1
    consume one mailer --exec "$waits"
    await has_line started ' 1'
    local command
    command=$(cut -d' ' -f1 started)
    kill -KILL "$member"
    await is_over "$command" # it died with its parent
    works consume mailer --count 1 --meta --timeout 1m
    prints ' attempt 2 '
    holds mailer 'g["done"] == 1 and g["redelivered"] == 1 and not g["members"]'
}

it_says_so_when_an_event_was_taken_from_it() {
    change 's/"logs":/"groups": { "mailer": { "handler_timeout": "50ms" } }, "logs":/'
    works init --catalogue changed.json
    mkfifo go
    pub lomash.orders.created 1
    consume one mailer --exec "$waits" --count 1
    local slow=$member
    await has_line started ' 1'
    works consume mailer --count 1 --timeout 1m --meta
    prints ' attempt 2 '
    echo late >go
    await has_line one.err 'evbus: '
    kill -TERM "$slow"
    ends_with "$slow" 0
    holds mailer 'g["done"] == 1 and g["pending"] == 0'
}

it_shares_a_group_among_its_consumers() {
    make_bus
    local n=0
    consume one readers
    local first=$member
    consume two readers
    local second=$member
    works group show readers
    prints "(pid $first, thread "
    prints "(pid $second, thread "
    both_have_some() {
        n=$((n + 1))
        pub lomash.content.blog.published "$n" --key "$n"
        [ -s one.out ] && [ -s two.out ]
    }
    await both_have_some
    await group_says readers 'g["lag"] == 0 and g["pending"] == 0'
    kill -TERM "$first" "$second"
    ends_with "$first" 0
    ends_with "$second" 0
    if ! diff <(awk '{print $NF}' one.out two.out | sort -n) <(seq "$n") >/dev/null; then fail 'not each of them once'; fi
    holds readers "g['done'] == $n and g['redelivered'] == 0"
}

it_gives_the_partitions_of_a_consumer_that_left_to_the_other() {
    make_bus
    consume one readers
    local first=$member
    consume two readers
    kill -KILL "$first"
    run pub lomash.content.blog.published --stdin --as shop < <(seq 100)
    exits 0
    await n_lines two.out 100
}

# ---- group -----------------------------------------------------------------------------------------------------------

it_lists_groups() {
    make_bus
    works group ls --names
    prints_just $'analytics\nmailer\nreaders'
    works group ls
    is_silent
    prints 'GROUP'
    if ! grep -qE '^readers +catalogue +0 ' out; then fail 'no row'; fi
    works group ls --json
    if ! n_lines out 3; then fail 'not three'; fi
    python3 -c 'import json
for line in open("out"):
    group = json.loads(line)
    assert group["kind"] == "catalogue" and group["done"] == 0 and group["members"] == [], group' || fail 'not JSON'
    stat_says '[g["group"] for g in s["groups"]] == ["analytics", "mailer", "readers"]' || fail 'not in stat --json'
    works stat
    if ! grep -qE '^readers +catalogue +0 ' out; then fail 'not in stat'; fi
    for name in analytics mailer readers; do works group rm "$name" --yes; done
    run group ls
    exits 0
    says 'no groups on bus'
    works group ls --json
    prints_nothing
    is_silent
}

it_shows_a_group() {
    make_bus
    pub lomash.orders.created 1
    holds mailer 'g["lag"] > 0 and g["topics"] == ["lomash.orders.created", "lomash.orders.cancelled"] and g["oldestMs"] is not None'
    works group show mailer
    is_silent
    prints 'mailer (catalogue)'
    prints 'lomash.orders.cancelled'
    prints 'nobody is a member'
    prints 'EVBUS_EFULL'
    prints 'With a journal'
    prints "evbus dlq ls --group mailer"
    prints 'releases'
    consume one mailer --as post-office
    works group show mailer
    prints "post-office (pid $member, thread $member), since 2"
    holds mailer 'g["members"][0]["service"] == "post-office"'
    refused 1 'there is no group nobody' group show nobody
}

it_says_what_is_wrong_with_the_command_line_of_group() {
    make_bus
    refused 2 'ls, show, add, rm or seek?' group
    refused 2 'unknown command "group lst"; did you mean group ls?' group lst
    refused 2 'unknown command "group x"; there are ls, show, add, rm and seek' group x
    refused 2 'which GROUP?' group show
    refused 2 'which GROUP?' group rm
    refused 2 'which GROUP, of which topics?' group add
    refused 2 'which GROUP, of which topics?' group add new
    refused 2 '"x" is one too many' group ls x
    refused 2 '"x" is one too many' group show mailer x
    refused 2 '"x" is one too many' group rm mailer x
    refused 2 '--from "then": expected earliest, latest, @POSITION or a time' group add new lomash.orders.created --from then
    refused 2 'group "New"' group add New lomash.orders.created
    refused 2 'lomash.**.x' group add new 'lomash.**.x'
    refused 1 'lomash.orders.paid' group add new lomash.orders.paid
    refused 73 'mailer' group add mailer lomash.orders.created
    refused 1 'there is no group nobody' group rm nobody
    refused 1 'there is no group nobody' group rm nobody --yes
    for verb in ls 'show mailer' 'add new lomash.orders.created' 'rm mailer --yes'; do
        # shellcheck disable=SC2086
        EVBUS_BUS=none refused 69 'none' group $verb
    done
}

it_makes_a_group_that_starts_where_it_is_told_to() {
    make_bus
    for hour in 08 09 10; do pub lomash.orders.created "\"$hour\"" --time "2026-02-01T$hour:00:00Z"; done
    works group add all 'lomash.orders.*' --from earliest
    prints_just 'made group all'
    works group add some 'lomash.orders.*' --from 2026-02-01T09:00:00Z
    works group add none 'lomash.orders.*' --json
    prints_just '{"made":"none"}'
    pub lomash.orders.created '"11"'
    for row in 'all 4' 'some 3' 'none 1'; do
        works consume "${row% *}" --timeout 0
        if ! n_lines out "${row#* }"; then fail "not $row"; fi
    done
    holds all 'g["kind"] == "ad hoc" and g["topics"] == ["lomash.orders.created", "lomash.orders.cancelled"]'
}

it_makes_a_group_of_patterns_that_stays() {
    make_bus
    pub lomash.orders.created '"before"'
    works consume audit lomash.orders.created 'lomash.content.**' --from earliest --count 1
    prints '"before"'
    holds audit 'g["kind"] == "ad hoc"'
    pub lomash.orders.created '"while nobody was there"'
    works consume audit --count 1
    prints '"while nobody was there"'
}

it_ends_an_ephemeral_group_with_its_last_member() {
    make_bus
    consume one peek 'lomash.**' --ephemeral
    local first=$member
    consume two peek
    holds peek 'g["kind"] == "ephemeral" and len(g["topics"]) == 3'
    kill -TERM "$first"
    ends_with "$first" 0
    has_group peek || fail 'it ended with its first member'
    kill -TERM "$member"
    ends_with "$member" 0
    await has_no_group peek
    works consume peek 'lomash.**' --ephemeral --timeout 0
    has_no_group peek || fail 'it stays'
}

it_asks_before_it_forgets_a_group() {
    make_bus
    pub lomash.orders.created 1
    works consume mailer --count 1 --exec 'exit 69'
    refused 2 'say --yes' group rm mailer
    says '1 events in hand, '
    answer() { # TEXT: at a terminal
        python3 -c 'import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], [sys.argv[1], "group", "rm", "mailer"])
seen = b""
while b"[y/N]" not in seen:
    seen += os.read(terminal, 1000)
os.write(terminal, (sys.argv[2] + "\n").encode())
try:
    while True:
        seen += os.read(terminal, 1000)
except OSError:
    pass
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))' "$EVBUS" "$1" >out 2>err
        code=$?
        last="the answer $1"
    }
    for no in n '' maybe; do
        answer "$no"
        exits 1
        prints 'group mailer has 1 events in hand, '
        has_group mailer || fail 'it is gone'
    done
    answer y
    exits 0
    prints 'removed group mailer'
    has_no_group mailer || fail 'it is still there'
    works group rm analytics --yes --json
    prints '{"removed":"analytics","pending":0,"lag":'
}

it_tells_the_members_of_a_group_that_it_was_forgotten() {
    make_bus
    consume one mailer
    works group rm mailer --yes
    prints '1 members'
    ends_with "$member" 1
    if ! has_line one.err 'group mailer has been removed'; then fail "not said: $(cat one.err)"; fi
    refused 1 'there is no group mailer' consume mailer
}

it_fills_the_log_of_an_absent_group_until_it_reads_or_is_forgotten() {
    make_bus
    works group rm analytics --yes
    run pub lomash.orders.created --stdin --as shop --timeout 0 < <(seq 2000)
    exits 75
    refused 75 'full' pub lomash.orders.created '"refused"' --as shop --timeout 0
    local n_published
    n_published=$("$EVBUS" tail --from earliest --timeout 0 'lomash.orders.*' | wc -l)
    works consume mailer --count "$n_published" --timeout 1m
    pub lomash.orders.created '"room again"' --timeout 30s
    run pub lomash.orders.created --stdin --as shop --timeout 0 < <(seq 2000)
    exits 75
    works group rm mailer --yes
    pub lomash.orders.created '"room again"' --timeout 30s
}

# ---- catalogue apply -------------------------------------------------------------------------------------------------

change() { # SED EXPRESSION: the catalogue, changed, in changed.json
    printf '%s\n' "$catalogue" | sed -e "$1" >changed.json
    if printf '%s\n' "$catalogue" | cmp -s - changed.json; then fail "nothing is changed by $1"; fi
}

it_adds_a_topic_a_group_and_a_producer_while_all_run() {
    make_bus
    consume one mailer --json
    mkfifo lines
    "$EVBUS" pub lomash.orders.created --stdin --as shop <lines >pub.out 2>pub.err &
    local producer=$!
    exec 8>lines
    echo '"before"' >&8
    await has_line one.out '"before"'

    change 's/"lomash.orders.created": .*$/"lomash.orders.created": { "producers": ["shop", "till"], "groups": ["mailer", "analytics", "audit"] },\n'\
'"lomash.orders.paid": { "producers": ["till"], "groups": ["mailer"] },\n'\
'"lomash.stock.sold": { "producers": ["till"], "groups": ["mailer"] },/'
    refused 1 'lomash.orders.paid' pub lomash.orders.paid 1 --as till
    refused 77 'till' pub lomash.orders.created 1 --as till
    works catalogue apply changed.json
    is_silent
    for line in 'group audit' 'producer till of lomash.orders.created' 'group audit of lomash.orders.created' \
        'topic lomash.orders.paid' 'group mailer of lomash.orders.paid' 'topic lomash.stock.sold'; do
        prints "added $line"
    done
    works catalogue show --json
    if ! cmp -s out changed.json; then fail 'the bus shows another text'; fi

    echo '"after"' >&8
    works pub lomash.orders.created '"by the new producer"' --as till
    works pub lomash.orders.paid '"on the new topic"' --as till
    works pub lomash.stock.sold '"in the new log"' --as till
    for text in '"after"' '"by the new producer"' '"on the new topic"' '"in the new log"'; do
        await has_line one.out "\"payload\":$text}"
    done
    works consume audit --count 2 --timeout 1m
    if has_line out '"before"'; then fail 'a new group starts behind what was there'; fi
    exec 8>&-
    ends_with "$producer" 0
    if ! has_line pub.err 'published 2 events in '; then fail "$(cat pub.err)"; fi
    kill -TERM "$member"
    ends_with "$member" 0

    run catalogue apply - <changed.json
    exits 0
    prints_just 'applied: no new topics, groups or producers'
    works catalogue apply changed.json --json
    prints_just '{"changes":[]}'
}

it_brings_a_forgotten_group_of_the_catalogue_back() {
    make_bus
    pub lomash.orders.created 1
    works group rm mailer --yes
    printf '%s' "$catalogue" >same.json
    works catalogue apply same.json
    prints_just 'added group mailer'
    pub lomash.orders.created 2
    works consume mailer --timeout 0
    if ! n_lines out 1; then fail 'it is not empty'; fi
    works group rm mailer --yes
    works catalogue apply same.json --json
    prints_just '{"changes":[{"change":"added","kind":"group","name":"mailer"}]}'
}

it_prints_changes_for_programs() {
    make_bus
    change 's/"shop"\], "groups": \["readers"\]/"blog"], "groups": ["readers", "mailer"]/'
    works catalogue apply changed.json --json
    prints_just '{"changes":[{"change":"added","kind":"producer","topic":"lomash.content.blog.published","name":"blog"},'\
'{"change":"added","kind":"group","topic":"lomash.content.blog.published","name":"mailer"},'\
'{"change":"removed","kind":"producer","topic":"lomash.content.blog.published","name":"shop"}]}'
}

it_changes_retries_while_a_consumer_runs() {
    make_bus
    change 's/"20ms"/"20ms", "10ms"/'
    # shellcheck disable=SC2016
    consume one mailer --exec 'echo "$EVBUS_ATTEMPT" >>attempts; exit 1'
    works catalogue apply changed.json
    prints 'applied: no new topics'
    pub lomash.orders.created 1
    await group_says mailer 'g["deadLetters"] == 1'
    if ! n_lines attempts 4; then fail 'another number of attempts'; fi
}

it_refuses_what_a_bus_cannot_change() {
    make_bus
    local before expected expression
    before=$("$EVBUS" catalogue show --json)
    while IFS='|' read -r expected expression; do
        change "$expression"
        refused 78 "$expected" catalogue apply changed.json
        says 'changed.json: '
        if [ "$("$EVBUS" catalogue show --json)" != "$before" ]; then fail "changed all the same: $expected"; fi
    done <<'ROWS'
partitions|s/"partitions": 1/"partitions": 2/
partitions|s/"partitions": 4/"partitions": 2/
ring|s/64KiB/128KiB/
namespace|s/lomash/other/g
lomash.orders.cancelled|s/"lomash.orders.cancelled": .*$//
analytics|s/, "analytics"//
topic|s/"topics"/"topic"/
changed.json|s/}$//
ROWS
    : >empty.json
    refused 78 'empty.json: ' catalogue apply empty.json
    refused 74 'none.json: No such file or directory' catalogue apply none.json
    refused 2 'which FILE?' catalogue apply
    refused 2 'did you mean catalogue apply?' catalogue aply
    change 's/64KiB/64KiB/;s/, "analytics"/, "analytics", "audit"/'
    EVBUS_BUS=none refused 69 none catalogue apply changed.json
    has_no_group audit || fail 'a group was made'
}

run_cases "$@"
