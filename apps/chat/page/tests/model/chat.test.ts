import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type ChatAction, type ChatState, KEPT_OUT_OF_VIEW, emptyChat, reduce } from "../../src/model/chat.ts";
import { conversation, message } from "../world.ts";

const ME = 1;
const outgoing = (messageUid: string, composedAt = 0) =>
  ({ messageUid, conversationId: "c1", body: "hello", composedAt, state: "sending" }) as const;

function after(...actions: ChatAction[]): ChatState {
  return actions.reduce(reduce, emptyChat(ME));
}

function thread(state: ChatState, id = "c1") {
  const found = state.threads[id];
  assert.ok(found);
  return found;
}

const loaded: ChatAction = { type: "conversationsLoaded", conversations: [conversation()] };
const history = (complete: boolean, ...seqs: number[]): ChatAction => ({
  type: "historyLoaded",
  conversationId: "c1",
  messages: seqs.map((seq) => message(seq)),
  complete,
});
const seqs = (state: ChatState) => thread(state).messages.map(({ seq }) => seq);

describe("messages", () => {
  test("stand in the conversation's order, once, however they came", () => {
    const arrived: ChatAction = { type: "arrived", messages: [message(6), message(4), message(6)] };
    const state = after(loaded, history(false, 3, 4, 5), arrived, history(true, 1, 2, 3));
    assert.deepEqual(seqs(state), [1, 2, 3, 4, 5, 6]);
    assert.equal(thread(state).history, "complete");
  });

  test("before the history is loaded only the newest is known", () => {
    const state = after(loaded, { type: "arrived", messages: [message(1), message(2)] });
    assert.deepEqual(seqs(state), []);
    assert.equal(thread(state).lastMessage?.seq, 2);
  });

  test("of others count as unread, once; of one's own not", () => {
    const own = message(3, { senderId: ME });
    const state = after(loaded, { type: "arrived", messages: [message(1), message(2), message(2), own] });
    assert.equal(thread(state).unread, 2);
  });

  test("of an unknown conversation make one of sender and recipients", () => {
    const state = after({ type: "arrived", messages: [message(1, { conversationId: "new", recipientIds: [9, 1] })] });
    assert.deepEqual(thread(state, "new").participantIds, [1, 2, 9]);
    assert.equal(thread(state, "new").unread, 1);
  });

  test("are let go of when their conversation leaves the view", () => {
    const many = Array.from({ length: KEPT_OUT_OF_VIEW + 50 }, (_, index) => index + 1);
    const state = after(
      loaded,
      history(true, ...many),
      { type: "opened", conversationId: "c1" },
      { type: "opened", conversationId: null },
    );
    assert.equal(thread(state).messages.length, KEPT_OUT_OF_VIEW);
    assert.equal(seqs(state)[0], 51);
    assert.equal(thread(state).history, "more");
  });
});

describe("reading", () => {
  const unread: ChatAction = {
    type: "conversationsLoaded",
    conversations: [conversation({ lastSeq: 5, readSeq: 3, unread: 2 })],
  };

  test("through the end leaves nothing unread", () => {
    const state = after(unread, { type: "read", conversationId: "c1", seq: 5 });
    assert.equal(thread(state).unread, 0);
    assert.equal(thread(state).readSeq, 5);
  });

  test("never goes backwards", () => {
    const state = after(unread, { type: "read", conversationId: "c1", seq: 5 }, unread);
    assert.equal(thread(state).readSeq, 5);
    assert.equal(thread(state).unread, 0);
  });

  test("remembers where the unread ones began when the conversation was opened", () => {
    const state = after(
      unread,
      { type: "opened", conversationId: "c1" },
      { type: "read", conversationId: "c1", seq: 5 },
    );
    assert.deepEqual(state.current, { conversationId: "c1", unreadAfter: 3 });
  });

  test("an older list from the server doesn't undo what arrived meanwhile", () => {
    const state = after(loaded, { type: "arrived", messages: [message(1)] }, loaded);
    assert.equal(thread(state).lastSeq, 1);
    assert.equal(thread(state).unread, 1);
  });
});

describe("the outbox", () => {
  test("a message goes from sending over accepted to its place in the order", () => {
    let state = after(loaded, history(true), { type: "composed", outgoing: outgoing("uid-1") });
    assert.equal(state.outbox[0]?.state, "sending");
    state = reduce(state, { type: "accepted", messageUid: "uid-1" });
    assert.equal(state.outbox[0]?.state, "accepted");
    state = reduce(state, { type: "arrived", messages: [message(1, { senderId: ME })] });
    assert.deepEqual(state.outbox, []);
    assert.deepEqual(seqs(state), [1]);
  });

  test("a refused one says why, and may be tried again or discarded", () => {
    let state = after(
      { type: "composed", outgoing: outgoing("a") },
      { type: "refused", messageUid: "a", reason: "Too long" },
    );
    assert.equal(state.outbox[0]?.reason, "Too long");
    state = reduce(state, { type: "retried", messageUid: "a" });
    assert.equal(state.outbox[0]?.state, "sending");
    assert.deepEqual(reduce(state, { type: "discarded", messageUid: "a" }).outbox, []);
  });
});

describe("notices", () => {
  const notice = (number: number) => ({ id: `n${number}`, number, kind: "login", body: "in", at: number, read: false });

  test("stand newest first, once, and are read through a number", () => {
    const state = after(
      { type: "noticesLoaded", notices: [notice(1), notice(2)] },
      { type: "noticesLoaded", notices: [notice(3), notice(2)] },
      { type: "noticesRead", through: 2 },
    );
    assert.deepEqual(
      state.notices.map(({ number, read }) => [number, read]),
      [
        [3, false],
        [2, true],
        [1, true],
      ],
    );
  });
});
