import assert from "node:assert/strict";
import { test } from "node:test";
import { Memory } from "../../src/session/memory.ts";
import { FakeStorage } from "./storage.ts";

const login = { token: "t", id: 1, username: "ann", expiresAt: 5 };
const outgoing = (messageUid: string, composedAt: number) =>
  ({ messageUid, conversationId: "c", body: "b", composedAt, state: "sending" }) as const;

test("what is kept comes back, each user's own", () => {
  const storage = new FakeStorage();
  const memory = new Memory(storage);
  memory.keepLogin(login);
  memory.keepDraft(1, "c", "half a sen");
  memory.keepOutgoing(1, outgoing("b", 2));
  memory.keepOutgoing(1, outgoing("a", 1));
  const again = new Memory(storage);
  assert.deepEqual(again.login, login);
  assert.equal(again.draft(1, "c"), "half a sen");
  assert.equal(again.draft(2, "c"), "");
  assert.deepEqual(
    again.outbox(1).map(({ messageUid }) => messageUid),
    ["a", "b"],
  );
});

test("forgetting a user leaves the others'", () => {
  const memory = new Memory(new FakeStorage());
  memory.keepLogin(login);
  for (const user of [1, 2, 11]) memory.keepDraft(user, "c", "text");
  memory.keepOutgoing(1, outgoing("a", 1));
  memory.forget(1);
  assert.equal(memory.login, null);
  assert.deepEqual(memory.outbox(1), []);
  assert.deepEqual(
    [1, 2, 11].map((user) => memory.draft(user, "c")),
    ["", "text", "text"],
  );
});

test("a full or damaged storage is survived", (context) => {
  const warned = context.mock.method(console, "warn", () => undefined);
  const storage = new FakeStorage();
  storage["chat.login"] = "{";
  const memory = new Memory(storage);
  assert.equal(memory.login, null);
  storage.full = true;
  memory.keepDraft(1, "c", "text");
  assert.equal(warned.mock.callCount(), 2);
});
