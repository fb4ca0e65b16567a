import assert from "node:assert/strict";
import { test } from "node:test";
import { Api, ApiError, explain } from "../../src/net/api.ts";

function api(response: () => Response, seen: Request[] = []): Api {
  return new Api((path, init) => {
    seen.push(new Request(new URL(path as string, "http://chat.example"), init));
    return Promise.resolve(response());
  }, "token");
}

async function failure(work: Promise<unknown>): Promise<ApiError> {
  try {
    await work;
  } catch (error) {
    assert.ok(error instanceof ApiError);
    return error;
  }
  assert.fail("nothing was thrown");
}

test("a request bears the token and JSON", async () => {
  const seen: Request[] = [];
  await api(() => Response.json({ conversationId: "c" }), seen).createConversation([1, 2], "Plans");
  const [request] = seen;
  assert.ok(request);
  assert.equal(request.headers.get("Authorization"), "Bearer token");
  assert.deepEqual(await request.json(), { participantIds: [1, 2], title: "Plans" });
});

test("a problem's words, line and waiting time arrive", async () => {
  const problem = { title: "The script has a syntax error", status: 422, code: "syntax", hint: "Rename it", line: 3 };
  const headers = { "Content-Type": "application/problem+json" };
  const refused = api(() => new Response(JSON.stringify(problem), { status: 422, headers }));
  const error = await failure(refused.saveScript("outgoing", "python", "x"));
  assert.equal(error.line, 3);
  assert.equal(explain(error), "Line 3: The script has a syntax error. Rename it.");
  const busy = api(() =>
    Response.json({ title: "Too many attempts" }, { status: 429, headers: { "Retry-After": "30" } }),
  );
  assert.equal(explain(await failure(busy.login("a", "b"))), "Too many attempts. Try again in 30 seconds.");
});

test("an answer that isn't JSON is an error all the same", async () => {
  const error = await failure(api(() => new Response("<html>Bad gateway", { status: 502 })).people());
  assert.equal(error.status, 502);
  assert.equal(explain(error), "The server refused the request.");
});

test("no answer at all says so", async () => {
  const unreachable = new Api(() => Promise.reject(new TypeError("failed to fetch")));
  const error = await failure(unreachable.people());
  assert.equal(error.status, 0);
  assert.equal(error.code, "unreachable");
});

test("no script is no error", async () => {
  assert.equal(await api(() => Response.json({}, { status: 404 })).script("incoming"), null);
});

test("only a request that bore a token tells of a bad one", async () => {
  const unauthorized = () => Response.json({}, { status: 401 });
  let told = 0;
  const signedIn = api(unauthorized);
  signedIn.onUnauthorized = () => (told += 1);
  await failure(signedIn.people());
  assert.equal(told, 1);
});
