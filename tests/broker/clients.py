"""python3-redis as others use it, who know nothing of evbus: clients.py SOCKET COMMAND STREAM ...

group STREAM GROUP N: a consumer group reads N events and acknowledges them; each as a line of JSON, as the ADR has it.
produce STREAM FIRST N: N events in a pipeline, number FIRST and so on; of key k<number % 3>.
"""
import json
import sys
import uuid
from datetime import datetime, timezone

import redis

ENVELOPE = ["eventId", "eventType", "timestamp", "version", "payload"]


def group(server, stream, name, n):
    try:
        server.xgroup_create(stream, name, id="0", mkstream=True)
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith("BUSYGROUP"):
            raise
    while n > 0:
        for _, entries in server.xreadgroup(name, "one", {stream: ">"}, count=n, block=1000):
            for entry_id, fields in entries:
                assert list(fields)[:5] == ENVELOPE, f"{entry_id}: {list(fields)}"
                event = {field: fields[field] for field in ENVELOPE}
                event["payload"] = json.loads(event["payload"])
                uuid.UUID(event["eventId"])
                datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
                print(json.dumps(event), flush=True)
                assert server.xack(stream, name, entry_id) == 1
                n -= 1


def produce(server, stream, first, n):
    pipeline = server.pipeline(transaction=False)
    for number in range(first, first + n):
        pipeline.xadd(stream, {
            "eventId": str(uuid.uuid4()),
            "eventType": stream,
            "timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
            "version": "1.0",
            "payload": json.dumps({"n": number}),
            "key": f"k{number % 3}",
        })
    pipeline.execute()


socket, command, stream, *rest = sys.argv[1:]
server = redis.Redis(unix_socket_path=socket, decode_responses=True)
if command == "group":
    group(server, stream, rest[0], int(rest[1]))
else:
    produce(server, stream, int(rest[0]), int(rest[1]))
