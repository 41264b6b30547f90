#!/usr/bin/env bash
# test_convert.sh: evbus convert, as typed. That nothing is lost is tests/unit/test_cloudevents.c's.
#
#     EVBUS=build/dev/tools/evbus tests/cli/test_convert.sh [CASE...]

catalogue='{ "namespace": "lomash", "defaults": { "partitions": 2, "ring": "16KiB" }, "tests": true,
  "topics": { "lomash.orders.created": { "producers": ["shop"], "groups": ["mailer"] },
              "lomash.content.blog.published": { "producers": ["editor"], "groups": [] } } }'

# shellcheck source=tests/cli/helpers.sh
source "$(dirname "$0")/helpers.sh"

envelope='{"eventId":"'$ID'","eventType":"lomash.orders.created","payload":1}'

convert() { # FILE ARGS...: leaves out, err, code
    local file=$1
    shift
    last="evbus convert $* <$file"
    timeout --foreground 100 "$EVBUS" convert "$@" <"$file" >out 2>err
    code=$?
}

publish_some() {
    make_bus
    pub lomash.orders.created '{"total": 19.99, "a":1e2,"a":2}' --key 10248 --time 2026-02-01T10:30:00.250+01:00 --id "$ID"
    pub lomash.orders.created '"ü \u0000 \ud83d\ude80"' --version 2.1
    pub lomash.orders.created '{}' --traceparent 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 --tracestate a=b \
        --correlation-id c-1 --causation-id "$ID" --expires 90d
    works pub --as editor lomash.content.blog.published '-0.0' --key $'a "quoted" key'
    works consume mailer --count 3 --timeout 0 --json --meta
    cp out consumed
}

it_takes_what_a_tail_prints_there_and_back() {
    local options
    publish_some
    for options in '--json' '--json --meta'; do
        # shellcheck disable=SC2086
        works tail --from earliest --timeout 0 $options
        cp out tailed
        n_lines tailed 4 || fail 'four events'
        convert tailed --to cloudevents
        exits 0
        is_silent
        cp out clouds
        convert clouds --from cloudevents
        exits 0
        is_silent
        cmp out tailed || fail "$options: other lines came back"
    done
    grep -qF '"partitionkey":"a \"quoted\" key"' clouds || fail 'the key'
    grep -qF '"traceparent":"00-0af7651916cd43dd8448eb211c80319c-' clouds || fail 'the trace'
    grep -qF '"correlationid":"c-1","causationid":"'"$ID"'","expirytime":"2' clouds || fail 'what it follows from'
    grep -qF '"data":{"total": 19.99, "a":1e2,"a":2}}' clouds || fail 'the payload'
    grep -qF '"time":"2026-02-01T09:30:00.250Z"' clouds || fail 'the time'
    grep -qF '"source":"/lomash/lomash.content"' clouds || fail 'the source'
    convert consumed --to cloudevents
    exits 0
    prints '"evbusattempt":1'
    cp out clouds
    convert clouds --from cloudevents
    cmp out consumed || fail 'what a group received'
}

it_takes_what_others_wrote_there_and_back() {
    cat >foreign <<'E'
{"specversion":"1.0","id":"A234-1234-1234","source":"https://github.com/cloudevents/spec/pull","type":"com.github.pull_request.opened","time":"2018-04-05T17:31:00.123456789+02:00","datacontenttype":"text/xml","subject":"123","comexampleextension1":"value","comexampleothervalue":5,"data":"<much wow=\"xml\"/>"}
{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"1955-11-05T06:15:00Z","datacontenttype":"image/png","data_base64":"AAEC"}
{"specversion":"1.0","id":"1","source":"/s","type":"t"}
E
    convert foreign --from cloudevents
    exits 0
    is_silent
    cp out ours
    python3 -c 'import json, uuid
lines = [json.loads(line) for line in open("ours")]
assert all(set(line) == {"envelope", "cloudEvents"} for line in lines)
assert [line["envelope"]["payload"] for line in lines] == ["<much wow=\"xml\"/>", "AAEC", None]
assert lines[0]["envelope"]["timestamp"] == "2018-04-05T17:31:00.123456789+02:00" and "timestamp" not in lines[1]["envelope"]
assert lines[1]["envelope"]["eventId"] == lines[2]["envelope"]["eventId"] == str(uuid.uuid5(uuid.NAMESPACE_URL, "/s 1"))' ||
        fail 'what became of them'
    convert ours --to cloudevents
    exits 0
    cmp out foreign || fail 'other lines came back'
}

it_names_a_line_that_is_none_and_goes_on() {
    printf '%s\r\n\n{"eventId":\n \t\r\n{"eventId":"x"}\n[1]\n%s' "$envelope" "$envelope" >lines
    convert lines --to cloudevents
    exits 65
    says 'evbus: line 3: no JSON: the end of the text'
    says 'evbus: line 5: envelope: eventType is missing'
    says 'evbus: line 6: it must be a JSON object, one event a line; found [1]'
    says 'evbus: 3 of 7 lines refused'
    n_lines out 2 || fail 'the others'
    printf '{"specversion":"0.3"}\n' >lines
    convert lines --from cloudevents
    exits 65
    says 'line 1: specversion is "0.3"; it must be "1.0"'
    prints_nothing
    if grep -q $'\r' out; then fail 'a CR'; fi
}

it_drops_a_line_without_end_and_goes_on() {
    { head -c 9000000 /dev/zero | tr '\0' x; printf '\n%s\n' "$envelope"; } >lines
    convert lines --to cloudevents
    exits 65
    says 'line 1: longer than 8388608 bytes'
    n_lines out 1 || fail 'the next'
    head -c 9000000 /dev/zero | tr '\0' x >lines
    convert lines --to cloudevents
    exits 65
    says 'line 1: longer than'
}

it_survives_any_bytes() {
    local i
    for i in 1 2 3 4 5; do
        head -c 100000 /dev/urandom >lines
        convert lines --to cloudevents
        exits 65
        prints_nothing
        convert lines --from cloudevents
        exits 65
        prints_nothing
        if LC_ALL=C grep -qav '^evbus: ' err; then fail 'more than a line for a line'; fi
    done
    : >lines
    convert lines --from cloudevents
    exits 0
    is_silent
}

it_hands_on_each_line_as_it_comes() {
    mkfifo lines
    "$EVBUS" convert --to cloudevents <lines >out 2>err &
    exec {feed}>lines
    printf '%s\n' "$envelope" >&"$feed"
    await n_lines out 1
    printf '%s\n' "$envelope" >&"$feed"
    await n_lines out 2
    exec {feed}>&-
    ends_with $! 0
    is_silent
}

it_ends_quietly_when_nobody_reads() {
    yes "$envelope" | "$EVBUS" convert --to cloudevents 2>err | head -n 1 >out
    code=${PIPESTATUS[1]} last='convert | head'
    exits 0
    is_silent
    printf '%s\n' "$envelope" >lines
    "$EVBUS" convert --to cloudevents <lines >/dev/full 2>err
    code=$? last='convert to a full disk'
    exits 74
}

it_names_what_makes_no_sense() {
    refused 2 'give one of --to cloudevents and --from cloudevents' convert
    refused 2 'give one of --to cloudevents and --from cloudevents' convert --to cloudevents --from cloudevents
    refused 2 '--to "avro": expected cloudevents' convert --to avro
    refused 2 'is one too many' convert --to cloudevents file
    refused 2 'did you mean convert?' convrt
    "$EVBUS" convert --to cloudevents </ >out 2>err
    code=$? last='convert of a folder'
    exits 74
    says 'standard input: Is a directory'
}

run_cases "$@"
