// Reads CloudEvents on standard input, one a line, with their authors' library, which must find each of them valid.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { HTTP } = createRequire(process.cwd() + "/")("cloudevents");
const headers = { "content-type": "application/cloudevents+json" };
const lines = readFileSync(0, "utf8").split("\n").filter((line) => line !== "");
for (const [index, body] of lines.entries()) {
  try {
    const event = HTTP.toEvent({ headers, body });
    if (event.specversion !== "1.0" || !event.validate()) throw new Error("not valid");
  } catch (error) {
    console.error(`line ${index + 1}: ${error.message}: ${JSON.stringify(error.errors ?? "")}: ${body}`);
    process.exit(1);
  }
}
console.log(`${lines.length} events`);
