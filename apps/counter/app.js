// A counter over HTTP, on Node's own http. It answers as `app.py` beside it does, byte for byte; see there for the paths.
"use strict";

const http = require("node:http");

const BODY_BYTES_MAX = 1024;
const METHODS = new Map([
  ["/integer", ["GET", "HEAD", "POST"]],
  ["/integer/reset", ["POST"]],
  ["/last-index", ["GET", "HEAD"]],
  ["/snapshot", ["GET", "HEAD", "PUT"]],
]);
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

let value = 0;
let lastIndex = 0;

// The request is answered with this status and this explanation, and changes nothing.
class Refused extends Error {
  constructor(status, error) {
    super(error);
    this.status = status;
  }
}

function parse(body) {
  if (body.length > BODY_BYTES_MAX) throw new Refused(413, "body too long");
  let operation;
  try {
    operation = JSON.parse(decoder.decode(body));
  } catch {
    throw new Refused(400, "body is not JSON");
  }
  if (operation === null || typeof operation !== "object" || Array.isArray(operation)) {
    throw new Refused(400, "body is not a JSON object");
  }
  return operation;
}

function changed(body) {
  const operation = parse(body);
  if (operation.op !== "INC" && operation.op !== "DEC") throw new Refused(500, "op must be INC or DEC");
  if (!Number.isSafeInteger(operation.value)) throw new Refused(400, "not an integer");
  const next = operation.op === "INC" ? value + operation.value : value - operation.value;
  if (!Number.isSafeInteger(next)) throw new Refused(422, "the counter can't hold that value");
  return next;
}

// Return all of the state, after it was replaced by the one in `body` if there is one.
function snapshot(body) {
  if (body !== null) {
    const state = parse(body);
    if (!Number.isSafeInteger(state.value) || !Number.isSafeInteger(state.index)) throw new Refused(400, "not an integer");
    [value, lastIndex] = [state.value, state.index];
  }
  return { value, index: lastIndex };
}

// Execute one request; Refused is thrown before anything changes.
function handle(method, path, body) {
  const methods = METHODS.get(path);
  if (methods === undefined) throw new Refused(404, "no such path");
  if (!methods.includes(method)) throw new Refused(405, "method not allowed");
  if (path === "/last-index") return [200, { index: lastIndex }];
  if (path === "/snapshot") return [200, snapshot(method === "PUT" ? body : null)];
  if (path === "/integer/reset") return [200, { value: (value = 0) }];
  if (method !== "POST") return [200, { value }];
  return [201, { value: (value = changed(body)) }];
}

function answer(request, response, body) {
  const index = request.headers["log-index"];
  if (index !== undefined && /^[0-9]+$/.test(index)) lastIndex = Number(index);
  const path = request.url.split("?", 1)[0];
  const headers = { "content-type": "application/json" };
  let status, result;
  try {
    [status, result] = handle(request.method, path, body);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    [status, result] = [error.status, { error: error.message }];
  }
  if (status === 405) headers.allow = METHODS.get(path).join(", ");
  const content = JSON.stringify(result);
  headers["content-length"] = content.length;
  response.writeHead(status, headers);
  response.end(content);
}

const server = http.createServer((request, response) => {
  const chunks = [];
  let size = 0;
  request.on("data", (chunk) => {
    if (size <= BODY_BYTES_MAX) chunks.push(chunk);
    size += chunk.length;
  });
  request.on("end", () => answer(request, response, Buffer.concat(chunks)));
});

server.listen(Number(process.env.PORT ?? 3000), process.env.HOST ?? "127.0.0.1");
