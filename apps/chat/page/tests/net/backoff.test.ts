import assert from "node:assert/strict";
import { test } from "node:test";
import { backoff } from "../../src/net/backoff.ts";

test("the longest wait doubles up to its bound", () => {
  const longest = Array.from({ length: 9 }, (_, attempt) => backoff(attempt, () => 1));
  assert.deepEqual(longest, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]);
});

test("a wait is drawn from the whole range, but is never nothing", () => {
  assert.equal(
    backoff(4, () => 0.5),
    4000,
  );
  assert.equal(
    backoff(4, () => 0),
    100,
  );
  assert.equal(
    backoff(5000, () => 1),
    30000,
  );
});
