import assert from "node:assert/strict";
import { test } from "node:test";
import { emptyChat, reduce } from "../../src/model/chat.ts";
import { conversationName, initials, listedPeople, listedThreads, threadOf } from "../../src/model/names.ts";
import { conversation, message } from "../world.ts";

const person = (id: number, username: string, online = false, name = "") => ({
  id,
  username,
  name,
  surname: "",
  online,
});

const state = [
  { type: "peopleLoaded", people: [person(1, "me"), person(2, "ann", false, "Ann"), person(3, "bob", true)] } as const,
  {
    type: "conversationsLoaded",
    conversations: [
      conversation({ lastMessage: message(1, { sentAt: 5 }) }),
      conversation({ conversationId: "c2", participantIds: [1, 2, 3], lastMessage: message(1, { sentAt: 9 }) }),
      conversation({ conversationId: "c3", participantIds: [1, 3], title: "Plans" }),
    ],
  } as const,
].reduce(reduce as never, emptyChat(1));

test("conversations are called by their title, else by the others", () => {
  assert.deepEqual(
    listedThreads(state, "").map((thread) => conversationName(state, thread)),
    ["Ann, bob", "Ann", "Plans"],
  );
});

test("searching looks at names, whatever their case", () => {
  assert.deepEqual(
    listedThreads(state, " ANN").map(({ conversationId }) => conversationId),
    ["c2", "c1"],
  );
  assert.deepEqual(
    listedPeople(state, "BO").map(({ id }) => id),
    [3],
  );
});

test("people are listed without oneself, those online first", () => {
  assert.deepEqual(
    listedPeople(state, "").map(({ id }) => id),
    [3, 2],
  );
});

test("a conversation is found by exactly its people", () => {
  assert.equal(threadOf(state, [3, 1])?.conversationId, "c3");
  assert.equal(threadOf(state, [1]), undefined);
});

test("initials are whole letters", () => {
  assert.equal(initials("Ann Lee"), "AL");
  assert.equal(initials("👩‍👩‍👧 z\u0335\u0334x"), "👩‍👩‍👧Z");
  assert.equal(initials(""), "");
});
