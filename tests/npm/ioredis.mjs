// Reads events in a consumer group, and publishes one, as a service with ioredis would: ioredis.mjs SOCKET STREAM N.
// What it has read it prints as the ADR's envelopes; it publishes number N.
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";

const { Redis } = createRequire(process.cwd() + "/")("ioredis");
const [socket, stream, count] = process.argv.slice(2);
const redis = new Redis({ path: socket, maxRetriesPerRequest: 1 });
const names = ["eventId", "eventType", "timestamp", "version", "payload"];

await redis.xgroup("CREATE", stream, "dashboard", "0", "MKSTREAM");
for (let n = 0; n < Number(count); ) {
  const read = await redis.xreadgroup(
    ..."GROUP dashboard one COUNT 10 BLOCK 20000 STREAMS".split(" "), stream, ">");
  if (!read) throw new Error(`${n} of ${count} events, and no more`);
  for (const [id, fields] of read[0][1]) {
    const event = Object.fromEntries(names.map((name, i) => {
      if (fields[2 * i] !== name) throw new Error(`${id}: field ${i} is ${fields[2 * i]}, not ${name}`);
      return [name, fields[2 * i + 1]];
    }));
    console.log(JSON.stringify({ ...event, payload: JSON.parse(event.payload) }));
    if ((await redis.xack(stream, "dashboard", id)) !== 1) throw new Error(`${id} was not pending`);
    n++;
  }
}
const pending = (await redis.xpending(stream, "dashboard"))[0];
if (pending !== 0) throw new Error(`${pending} are pending`);
const event = {
  eventId: randomUUID(),
  eventType: stream,
  timestamp: new Date().toISOString(),
  version: "1.0",
  payload: JSON.stringify({ n: Number(count) }),
};
await redis.xadd(stream, "*", ...Object.entries(event).flat());
console.log(JSON.stringify({ ...event, payload: JSON.parse(event.payload) }));
await redis.quit();
