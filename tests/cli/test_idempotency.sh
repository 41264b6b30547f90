#!/usr/bin/env bash
# The worked example of docs/idempotency.md: each payment's points once, with SQLite and with a PostgreSQL of the test's own.
#
#   EVBUS=build/tools/evbus IDEMPOTENCY=build/docs/idempotency tests/cli/test_idempotency.sh [CASE...]
#
# What a case is, and what they share: helpers.sh.
# shellcheck source=tests/cli/helpers.sh
. "$(dirname "$0")/helpers.sh"

IDEMPOTENCY=$(realpath "${IDEMPOTENCY:-$(dirname "$EVBUS")/../docs/idempotency}")
catalogue=$(cat "$source_root/share/catalogue.json")
export EVBUS_STATE_DIR=${EVBUS_STATE_DIR:-$scratch/state}
mkdir -p "$EVBUS_STATE_DIR"
postgres_bin=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1) # as Debian has it
postgres_bin=$(dirname "${postgres_bin:-$(command -v initdb)}")

# ---- helpers ---------------------------------------------------------------------------------------------------------

publish() { # FIRST LAST: payments of one to nine pounds by three customers
    local i
    for ((i = $1; i < $2; i++)); do
        printf '{"orderId":"%d","customerId":"c%d","amount":%d.50}\n' "$i" $((i % 3)) $((i % 9 + 1))
    done >payments
    cat payments >>published
    works pub lomash.payments.succeeded --stdin --as order-payment-service <payments
}

serve() { # PROGRAM DATABASE: in the background, its pid in $service
    "$1" "$2" >>service.out 2>>service.err &
    service=$!
}

sums() { # from what was published
    python3 -c 'import json, sys
sums = {}
for line in open("published"):
    payment = json.loads(line)
    sums[payment["customerId"]] = sums.get(payment["customerId"], 0) + int(payment["amount"])
print(*(f"{customer}|{n}" for customer, n in sorted(sums.items())), sep="\n")'
}

of_sqlite() { # SQL
    python3 -c 'import sqlite3, sys
try:
    for row in sqlite3.connect("file:points.db?mode=ro", uri=True).execute(sys.argv[1]): print(*row, sep="|")
except sqlite3.OperationalError: pass' "$1"
}

of_postgres() { psql -XAtq -d "$connection" -c "$1" 2>/dev/null; }

n_rows() { [ "$($1 'SELECT count(*) FROM evbus_processed_event')" = "$2" ]; }
has_rows() { [ "$($1 'SELECT count(*) FROM evbus_processed_event')" -ge "$2" ] 2>/dev/null; }
is_right() { [ "$($1 'SELECT customer, n FROM points ORDER BY customer')" = "$(sums)" ]; }
comes_right() { # of_...: each payment has its points, and each has its row
    (await is_right "$1") >/dev/null || fail "$($1 'SELECT customer, n FROM points ORDER BY customer') instead of $(sums); $(cat service.err)"
    await n_rows "$1" "$(wc -l <published)"
}

is_killed() { kill -KILL "$1" && await is_over "$1"; }

is_done() { # the group has nothing left to do
    "$EVBUS" group show loyalty-service --json 2>/dev/null | python3 -c 'import json, sys
text = sys.stdin.read()
g = json.loads(text) if text else sys.exit(1)
sys.exit(0 if int(g["lag"]) == 0 and int(g["pending"]) == 0 else 1)'
}

counts_each_payment_once() { # of_... PROGRAM DATABASE
    local kills='1 2' n code
    if [ "${EVBUS_QUICK:-}" = 1 ]; then kills=1; fi
    make_bus
    publish 0 150
    serve "$2" "$3"
    comes_right "$1"
    for n in $kills; do # a third one may spend the third attempt
        publish $((n * 150)) $((n * 150 + 150)) &
        await has_rows "$1" $((n * 150 + 40))
        is_killed "$service"
        wait $!
        serve "$2" "$3"
        comes_right "$1"
    done
    await is_done
    kill "$service"
    ends_with "$service" 0
    works group seek loyalty-service --to earliest # all of it comes again
    serve "$2" "$3"
    await is_done
    comes_right "$1"
    kill "$service"
    ends_with "$service" 0
}

postgres_start() { # in $connection; returns 1 where there is none
    local as=()
    [ -x "$postgres_bin/initdb" ] && [ -x "$IDEMPOTENCY-postgres" ] && command -v psql >psql || return 1
    server=$PWD/pg
    mkdir "$server"
    if [ "$(id -u)" -eq 0 ]; then # whom initdb refuses
        chmod 711 "$scratch" "$PWD"
        chown postgres "$server" && as=(setpriv --reuid postgres --regid postgres --clear-groups)
    fi
    (cd "$server" && "${as[@]}" "$postgres_bin/initdb" -D "$server/data" -U evbus -A trust -N --locale=C -E UTF8) >initdb.log 2>&1 ||
        fail "$(cat initdb.log)"
    (cd "$server" && exec "${as[@]}" "$postgres_bin/postgres" -D "$server/data" -k "$server" -c listen_addresses= -c fsync=off \
        -c dynamic_shared_memory_type=mmap) \
        >postgres.log 2>&1 &
    postgres=$!
    connection="host=$server user=evbus dbname=postgres"
    await of_postgres 'SELECT 1' >/dev/null
}

postgres_end() {
    kill -QUIT "$postgres"
    await is_over "$postgres"
}

# ---- cases -----------------------------------------------------------------------------------------------------------

it_counts_each_payment_once_with_sqlite_whenever_it_is_killed_and_when_all_come_again() {
    counts_each_payment_once of_sqlite "$IDEMPOTENCY" points.db
}

it_counts_each_payment_once_with_postgresql_too() {
    postgres_start || return
    counts_each_payment_once of_postgres "$IDEMPOTENCY-postgres" "$connection"
    postgres_end
}

it_goes_on_by_itself_when_postgresql_has_dropped_its_connection() {
    postgres_start || return
    make_bus
    publish 0 20
    serve "$IDEMPOTENCY-postgres" "$connection"
    comes_right of_postgres
    of_postgres "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = 'postgres'" >/dev/null
    publish 20 40
    comes_right of_postgres
    kill "$service"
    ends_with "$service" 0
    postgres_end
}

it_is_quoted_word_for_word() {
    python3 - "$source_root/docs" >quotes 2>&1 <<'END' || fail "$(cat quotes)"
import pathlib, re, sys
docs = pathlib.Path(sys.argv[1])
programs = (docs / "idempotency.c").read_text() + (docs / "idempotency_postgres.c").read_text()
quotes = re.findall(r"^```c\n(.*?)^```", (docs / "idempotency.md").read_text(), re.DOTALL | re.MULTILINE)
header = (docs / "../include/evbus/once.h").read_text().split("*/")[0]
quotes.append(re.sub(r"^ \*     ", "", re.search(r"( \*     static .*?\n \*     }\n)", header, re.DOTALL).group(), flags=re.MULTILINE))
assert len(quotes) >= 3, "no quotes"
for quote in quotes:
    assert quote in programs, "in no program:\n" + quote
END
}

run_cases "$@"
