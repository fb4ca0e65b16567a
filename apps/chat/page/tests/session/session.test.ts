import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import type { Conversation, InboxEntry } from "../../src/model/types.ts";
import { Api } from "../../src/net/api.ts";
import { Memory } from "../../src/session/memory.ts";
import { MOST_WAITING, Session } from "../../src/session/session.ts";
import { FakeClock, FakeNetwork, conversation, entry, message, settled } from "../world.ts";
import { FakeStorage } from "./storage.ts";

const HOUR = 3_600_000;

let clock: FakeClock;
let network: FakeNetwork;
let storage: FakeStorage;
let session: Session;
let requests: string[];
let conversations: Conversation[];
let inbox: InboxEntry[];
let broken: number | null;
let uid: number;

beforeEach(async () => {
  clock = new FakeClock();
  network = new FakeNetwork();
  storage = new FakeStorage();
  [requests, inbox, broken, uid] = [[], [], null, 0];
  conversations = [conversation()];
  session = newSession();
  await session.start();
});

function newSession(): Session {
  const around = {
    api: new Api(answer),
    memory: new Memory(storage),
    openSocket: network.open,
    schedule: clock.schedule,
    random: () => 1,
    now: () => clock.now,
    newUid: () => `uid-${(uid += 1)}`,
  };
  return new Session(around, { token: "t1", id: 1, username: "me", expiresAt: clock.now + HOUR });
}

/** The services, as far as these tests need them. */
function answer(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
  const [path = "", search = ""] = (input as string).split("?");
  requests.push(`${init.method ?? "GET"} ${path}`);
  if (broken !== null) return Promise.resolve(Response.json({ title: "Broken" }, { status: broken }));
  const after = Number(new URLSearchParams(search).get("after"));
  const answers: Record<string, object> = {
    "/messages-ms/inbox": {
      entries: inbox.filter(({ inboxSeq }) => inboxSeq > after),
      lastInboxSeq: inbox.at(-1)?.inboxSeq ?? 0,
    },
    "/messages-ms/conversations": { conversations },
    "/messages-ms/conversations/c1/messages": { messages: [] },
    "/web-ms/people": { people: [{ id: 2, username: "ann", name: "", surname: "", online: true }] },
    "/notifications-ms/notifications": { notifications: [] },
    "/auth-ms/auth/login": { token: "t2", id: 1, username: "me", expiresAt: clock.now + HOUR },
  };
  return Promise.resolve(Response.json(answers[path] ?? {}));
}

const outbox = () => session.chat.get().outbox.map(({ body, state }) => [body, state]);
const sent = () => network.last.sent.filter(({ type }) => type === "SendMessage");
const comesBack = (inboxSeq: number, messageUid: string) => entry(inboxSeq, { messageUid, senderId: 1 });

describe("starting", () => {
  test("loads, then resumes after the inbox's end", async () => {
    inbox = [entry(1), entry(2)];
    session = newSession();
    await session.start();
    assert.equal(session.loadState.get(), "ready");
    assert.equal(network.last.lastSeq, 2);
  });

  test("keeps trying while the server can't answer", async (context) => {
    context.mock.method(console, "warn", () => undefined);
    broken = 503;
    session = newSession();
    await session.start();
    assert.equal(session.loadState.get(), "failed");
    broken = null;
    clock.turn(2_000);
    await settled();
    assert.equal(session.loadState.get(), "ready");
  });
});

describe("sending", () => {
  test("one at a time, in the order written", () => {
    session.send("c1", "one");
    session.send("c1", "two");
    network.last.welcome();
    assert.deepEqual(
      sent().map(({ message }) => message),
      ["one"],
    );
    assert.deepEqual(sent()[0], {
      type: "SendMessage",
      messageUid: "uid-1",
      message: "one",
      destinationUsers: [2],
      conversationId: "c1",
    });
    network.last.say({ type: "Accepted", messageUid: "uid-1" });
    assert.deepEqual(
      sent().map(({ message }) => message),
      ["one", "two"],
    );
    network.last.receive(comesBack(1, "uid-1"));
    network.last.receive(comesBack(2, "uid-2"));
    assert.deepEqual(outbox(), []);
  });

  test("again under the same messageUid after a lost connection, unless it was accepted", () => {
    network.last.welcome();
    session.send("c1", "one");
    network.last.say({ type: "Accepted", messageUid: "uid-1" });
    session.send("c1", "two");
    network.last.lose(1006);
    clock.turn(500);
    network.last.welcome();
    assert.deepEqual(
      sent().map(({ messageUid }) => messageUid),
      ["uid-2"],
    );
  });

  test("again after a reload of the page", async () => {
    session.send("c1", "one");
    session.stop();
    session = newSession();
    await session.start();
    network.last.welcome();
    assert.deepEqual(
      sent().map(({ messageUid }) => messageUid),
      ["uid-1"],
    );
  });

  test("a message that came back through the inbox isn't sent again", () => {
    network.last.welcome();
    session.send("c1", "one");
    network.last.lose(1006);
    clock.turn(500);
    network.last.receive(comesBack(1, "uid-1"));
    network.last.welcome();
    assert.deepEqual(sent(), []);
    assert.deepEqual(new Memory(storage).outbox(1), []);
  });

  test("an answer that doesn't come means a dead connection", () => {
    network.last.welcome();
    session.send("c1", "one");
    clock.turn(15_000 + 500);
    assert.equal(network.sockets.length, 2);
    network.last.welcome();
    assert.equal(sent().length, 1);
  });

  test("a refusal stops that message only", () => {
    network.last.welcome();
    session.send("c1", "one");
    session.send("c1", "two");
    network.last.say({ type: "Refused", messageUid: "uid-1", code: "too_long", title: "Too long" });
    assert.deepEqual(outbox(), [
      ["one", "refused"],
      ["two", "sending"],
    ]);
    assert.equal(sent().length, 2);
  });

  test("a refusal that passes makes it go again under its messageUid", () => {
    network.last.welcome();
    session.send("c1", "one");
    network.last.say({ type: "Refused", messageUid: "uid-1", code: "outcome_unknown", title: "Nobody knows" });
    assert.deepEqual(outbox(), [["one", "sending"]]);
    clock.turn(2_000);
    assert.deepEqual(
      sent().map(({ messageUid }) => messageUid),
      ["uid-1", "uid-1"],
    );
  });

  test("a close that blames the message sets it aside, so that it isn't sent for ever", () => {
    network.last.welcome();
    session.send("c1", "one");
    network.last.lose(4403);
    clock.turn(500);
    network.last.welcome();
    assert.deepEqual(sent(), []);
    assert.deepEqual(outbox(), [["one", "refused"]]);
  });

  test("no more may wait than fit", () => {
    for (let count = 0; count < MOST_WAITING; count += 1) assert.ok(session.send("c1", "text"));
    assert.equal(session.send("c1", "one too many"), false);
  });
});

describe("receiving", () => {
  test("a message of an unknown conversation makes the list be fetched again", async () => {
    network.last.welcome();
    conversations = [conversation({ conversationId: "new", title: "Plans", participantIds: [1, 2, 3], lastSeq: 1 })];
    network.last.receive(entry(1, { conversationId: "new" }));
    await settled();
    assert.equal(session.chat.get().threads.new?.title, "Plans");
  });

  test("what comes into view is read, unless nobody looks", () => {
    const reads = () => requests.filter((request) => request === "POST /messages-ms/conversations/c1/read").length;
    network.last.welcome();
    session.open("c1");
    network.last.receive(entry(1));
    assert.equal(reads(), 1);
    session.attend(false);
    network.last.receive(entry(2));
    assert.equal(reads(), 1);
    assert.equal(session.chat.get().threads.c1?.unread, 1);
    session.attend(true);
    assert.equal(reads(), 2);
  });

  test("is told to those who can't see it", () => {
    network.last.welcome();
    network.last.receive({ inboxSeq: 1, message: message(1, { body: "hi" }) });
    assert.equal(session.announcement.get(), "New message in ann");
    session.open("c1");
    network.last.receive({ inboxSeq: 2, message: message(2, { body: "there" }) });
    assert.equal(session.announcement.get(), "ann: there");
  });

  test("a notice makes a toast, which goes by itself", () => {
    network.last.welcome();
    const notification = { id: "n", number: 1, kind: "login", body: "A new login", at: 1, read: false };
    network.last.say({ type: "Notice", notification });
    assert.equal(session.toasts.shown.get()[0]?.text, "A new login");
    clock.turn(6_000);
    assert.deepEqual(session.toasts.shown.get(), []);
    assert.equal(session.chat.get().notices.length, 1);
  });
});

describe("the login", () => {
  test("is said to end two minutes before it does", () => {
    clock.turn(HOUR - 120_001);
    assert.equal(session.loginState.get(), "valid");
    clock.turn(1);
    assert.equal(session.loginState.get(), "ending");
  });

  test("is renewed in place, keeping drafts and what waits", async () => {
    network.last.welcome();
    session.keepDraft("c1", "half a sen");
    network.last.lose(4401);
    session.send("c1", "written meanwhile");
    assert.equal(session.loginState.get(), "expired");
    await session.renew("secret");
    assert.equal(session.loginState.get(), "valid");
    assert.equal(network.last.token, "t2");
    network.last.welcome();
    assert.deepEqual(
      sent().map(({ message }) => message),
      ["written meanwhile"],
    );
    assert.equal(session.draft("c1"), "half a sen");
    assert.equal(new Memory(storage).login?.token, "t2");
  });

  test("ends with any answer that says so", async () => {
    broken = 401;
    await assert.rejects(session.converse([5]));
    assert.equal(session.loginState.get(), "expired");
  });
});
