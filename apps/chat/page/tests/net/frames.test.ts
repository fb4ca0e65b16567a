import assert from "node:assert/strict";
import { test } from "node:test";
import { readFrame } from "../../src/net/frames.ts";

test("a known frame is read", () => {
  const frame = { type: "Accepted", messageUid: "u" };
  assert.deepEqual(readFrame(JSON.stringify(frame)), frame);
});

test("an unknown type is passed over", () => {
  assert.equal(readFrame('{"type":"Weather"}'), null);
  assert.equal(readFrame('{"type":"toString"}'), null);
});

for (const text of ["", "{", "null", "[]", "3", "{}", '{"type":3}', '{"type":"Accepted"}']) {
  test(`${text || "nothing"} is no frame`, () => {
    assert.throws(() => readFrame(text), TypeError);
  });
}
