# helpers.sh: what the tests of the command line share. Sourced by them; $catalogue is what make_bus makes a bus of.
#
# A case is a function that begins with it_ and says what holds. It runs in a subshell, in a folder of its own, on a bus of
# its own ($EVBUS_BUS) which is removed behind it, as are the programs it left running. Nothing sleeps: await polls a
# condition under a deadline, and the deadline is only ever reached by a failure.
# shellcheck shell=bash

set -uo pipefail

EVBUS=${EVBUS:-evbus}
case $EVBUS in
    */*) EVBUS=$(realpath "$EVBUS") ;;
    *) EVBUS=$(command -v "$EVBUS" || printf '%s' "$EVBUS") ;;
esac
if ! [ -x "$EVBUS" ]; then
    printf 'EVBUS=%s is no program; e.g. EVBUS=build/tools/evbus %s\n' "$EVBUS" "$0" >&2
    exit 2
fi
self=$(realpath "$0")
source_root=$(realpath "$(dirname "$self")/../..")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
unset EVBUS_SERVICE
export LC_ALL=C.UTF-8

ID=0198c6f2-7d1e-7a44-9b5f-3e6a0c1d2b4f

# ---- helpers ---------------------------------------------------------------------------------------------------------

fail() { # TEXT...
    printf '    %s\n' "$*"
    if [ -f out ]; then printf '    exit code %s; standard output:\n' "${code:-?}" && head -c 2000 out | sed 's/^/      | /'; fi
    if [ -f err ]; then printf '    standard error:\n' && head -c 2000 err | sed 's/^/      | /'; fi
    exit 1
}

run() { # ARGS...: leaves out, err, code
    last="evbus $*"
    timeout --foreground 100 "$EVBUS" "$@" >out 2>err
    code=$?
}

exits() { if [ "$code" != "$1" ]; then fail "$last: exit $code instead of $1"; fi; }
says() { if ! grep -qF -e "$1" err; then fail "$last: standard error does not say: $1"; fi; }
is_silent() { if [ -s err ]; then fail "$last: says something on standard error"; fi; }
prints() { if ! grep -qF -e "$1" out; then fail "$last: does not print: $1"; fi; }
prints_nothing() { if [ -s out ]; then fail "$last: prints something"; fi; }
prints_just() { if [ "$(cat out)" != "$1" ]; then fail "$last: should print just: $1"; fi; }

refused() { # CODE TEXT ARGS...: exits with it, says it after "evbus: ", prints nothing
    local expected_code=$1 expected_text=$2
    shift 2
    run "$@" </dev/null
    exits "$expected_code"
    says "$expected_text"
    prints_nothing
    if grep -qv '^evbus: ' err; then fail "$last: a line of standard error does not begin with \"evbus: \""; fi
}

works() { # ARGS...
    run "$@"
    exits 0
}

await() { # COMMAND...: polls it until it succeeds
    local deadline=$((SECONDS + 60))
    until "$@"; do
        if [ "$SECONDS" -ge "$deadline" ]; then fail "waited in vain for: $*"; fi
        read -rt 0.02 <&"$never" || true # a pipe that nothing is written to
    done
}

ends_with() { # PID CODE
    await is_over "$1"
    wait "$1"
    code=$?
    last="pid $1"
    exits "$2"
}

is_over() { ! kill -0 "$1" 2>/dev/null || [ "$(ps -o stat= -p "$1" | cut -c1)" = Z ]; }
has_line() { grep -qF -e "$2" "$1" 2>/dev/null; }
n_lines() { [ "$(wc -l <"$1")" -eq "$2" ]; }
is_stopped() { [ "$(ps -o stat= -p "$1" | cut -c1)" = T ]; }

stat_says() { # PYTHON EXPRESSION over s (stat --json) and logs (the last partition of each by name), e.g. 's["keeper"] is None'
    "$EVBUS" stat --json 2>/dev/null | python3 -c 'import json, sys
s = json.load(sys.stdin)
logs = {p["log"]: p for p in s["partitions"]}
sys.exit(0 if eval(sys.argv[1]) else 1)' "$1"
}

is_published() { "$EVBUS" tail --from earliest --timeout 0 2>/dev/null | grep -q -e "$1"; }

make_bus() { printf '%s' "$catalogue" | "$EVBUS" init --catalogue - >made 2>&1 || fail "no bus: $(cat made)"; }

position() { grep -oE '@[0-9]+' out | head -n 1 | cut -c2-; } # in what was printed; names of topics and services stand before

pub() { # TOPIC PAYLOAD OPTIONS...: as the shop, must work
    works pub --as shop "$@"
}

follow() { # ARGS...: a tail in the background, attached when we go on; its pid in $tail
    "$EVBUS" tail "$@" >tail.out 2>tail.err &
    tail=$!
    await stat_says 'any(p["sleepers"] > 0 for p in s["partitions"])'
}

ask() { # PATH: of a bridge that serves its metrics at unix:$PWD/m, into out; the status in $status
    status=$(python3 - "$1" "$PWD/m" <<'PYTHON'
import http.client, socket, sys
class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[2])
link = Unix("localhost", timeout=60)
link.request("GET", sys.argv[1])
answer = link.getresponse()
open("out", "wb").write(answer.read())
print(answer.status)
PYTHON
    ) || fail "GET $1: no answer"
    last="GET $1"
}

# ---- all of them -----------------------------------------------------------------------------------------------------

run_case() { # NUMBER NAME: in a subshell
    export EVBUS_BUS=cli-$$-$1
    mkdir "$scratch/$1" && cd "$scratch/$1" || exit 1
    exec {never}<>"$(mkfifo never && echo never)"
    trap 'for child in $(jobs -p); do kill -KILL "$child"; done 2>/dev/null; wait 2>/dev/null
          "$EVBUS" rm -b "cli-'$$-$1'" >/dev/null 2>&1' EXIT
    "$2"
    exit 0 # a case fails by fail()
}

run_cases() { # [CASE...]: these, else all of the script's; the counts, and whether all of them passed
    local n_passed=0 n_failed=0 number=0 name story
    if [ $# -eq 0 ]; then
        # shellcheck disable=SC2046
        set -- $(sed -n 's/^\(it_[a-z0-9_]*\)().*/\1/p' "$self")
    fi
    for name in "$@"; do
        number=$((number + 1))
        if story=$(run_case "$number" "$name" 2>&1); then
            n_passed=$((n_passed + 1))
        else
            n_failed=$((n_failed + 1))
            printf 'FAILED %s\n%s\n' "$name" "$story"
        fi
    done
    printf '%d passed, %d failed\n' "$n_passed" "$n_failed"
    [ "$n_failed" -eq 0 ]
}
