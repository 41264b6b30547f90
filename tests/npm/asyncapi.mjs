// Reads an AsyncAPI document on standard input with its authors' parser; says what is wrong with it, and what it has.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { Parser } = createRequire(process.cwd() + "/")("@asyncapi/parser");
const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const SEVERITY_ERROR = 0;
for (const found of diagnostics)
  if (found.severity === SEVERITY_ERROR || found.code === "asyncapi3-unused-channel")
    console.error(`${found.code} at ${found.path.join(".")}: ${found.message}`);
if (!document) process.exit(1);
const operations = document.operations().all();
for (const operation of operations)
  if (operation.channels().all().length !== 1 || operation.messages().all().length !== 1) {
    console.error(`${operation.id()}: not one channel and one message`);
    process.exit(1);
  }
console.log(
  `version ${document.version()}, ${document.channels().all().length} channels, ` +
    `${operations.filter((one) => one.isSend()).length} send, ` +
    `${operations.filter((one) => one.isReceive()).length} receive, ` +
    `${document.messages().all().length} messages`,
);
process.exit(diagnostics.some((found) => found.severity === SEVERITY_ERROR) ? 1 : 0);
